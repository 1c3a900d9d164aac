/**
 * Multiplication and division in GF(2^16), the field of 65,536 elements in which addition is XOR:
 * polynomials over GF(2) modulo x^16 + x^12 + x^3 + x + 1, which is primitive, by tables of
 * logarithms and powers of x. The tables take 384 KB and are made when they are first needed.
 */

const POLYNOMIAL = 0x1_100b;
/** How many elements there are besides 0. */
const ORDER = 65_535;

/** See the file header. */
export class Field {
  private static instance: Field | null = null;

  private readonly logs = new Uint16Array(ORDER + 1);
  /** The powers twice, so that the sum of two logarithms needs no remainder. */
  private readonly powers = new Uint16Array(2 * ORDER);

  private constructor() {
    let power = 1;
    for (let log = 0; log < ORDER; log++) {
      this.powers[log] = this.powers[log + ORDER] = power;
      this.logs[power] = log;
      power <<= 1;
      if (power > ORDER) power ^= POLYNOMIAL;
    }
  }

  /** The field; the first call takes a millisecond. */
  static get(): Field {
    return (Field.instance ??= new Field());
  }

  /** The product. */
  multiply(a: number, b: number): number {
    return a === 0 || b === 0 ? 0 : this.powers[this.logs[a] + this.logs[b]];
  }

  /** The quotient; `b` must not be 0. */
  divide(a: number, b: number): number {
    return a === 0 ? 0 : this.powers[this.logs[a] + ORDER - this.logs[b]];
  }
}
