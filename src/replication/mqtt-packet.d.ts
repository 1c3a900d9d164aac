/** The one table of the package mqtt-packet that `mqtt-codes.ts` adds to: it has no types. */
declare module "mqtt-packet/constants.js" {
  const constants: { MQTT5_PUBACK_PUBREC_CODES: Record<number, string> };
  export default constants;
}
