/**
 * Simulated time: tasks in the order of their moments, and nothing ever waits for real. Tasks
 * of one moment run in the order in which they were put there. Promises that a task settled
 * have had their effect before the next task.
 */
import { drainMicrotasks } from "bun:jsc";

interface Task {
  readonly atMs: number;
  readonly order: number;
  /** Null once called off. */
  run: (() => void) | null;
}

/** True time, in milliseconds from 0, and what is to happen. */
export class Timeline {
  nowMs = 0;
  /** Tasks run so far. */
  tasksRun = 0;
  private order = 0;
  private isHalted = false;
  /** A binary heap, the earliest task first. */
  private readonly heap: Task[] = [];

  /** Runs the task when `delayMs` have passed. Returns what calls it off. */
  after(delayMs: number, run: () => void): () => void {
    const task: Task = { atMs: this.nowMs + delayMs, order: this.order++, run };
    this.push(task);
    return () => {
      task.run = null;
    };
  }

  /** Stops in the middle of it all, for good. */
  halt(): void {
    this.isHalted = true;
  }

  /** Runs everything up to the moment, and the clock is there then. */
  runUntil(untilMs: number): void {
    // What the caller has just begun may be about to put tasks here.
    drainMicrotasks();
    while (!this.isHalted && this.heap.length > 0 && this.heap[0].atMs <= untilMs) {
      const task = this.pop();
      if (task.run === null) continue;
      this.nowMs = task.atMs;
      this.tasksRun++;
      task.run();
      drainMicrotasks();
    }
    if (!this.isHalted) this.nowMs = untilMs;
  }

  private push(task: Task): void {
    const { heap } = this;
    let at = heap.length;
    heap.push(task);
    while (at > 0) {
      const parent = (at - 1) >> 1;
      if (!isBefore(task, heap[parent])) break;
      heap[at] = heap[parent];
      at = parent;
    }
    heap[at] = task;
  }

  private pop(): Task {
    const { heap } = this;
    const first = heap[0];
    const last = heap.pop()!;
    if (heap.length === 0) return first;
    let at = 0;
    for (;;) {
      let child = 2 * at + 1;
      if (child >= heap.length) break;
      if (child + 1 < heap.length && isBefore(heap[child + 1], heap[child])) child++;
      if (!isBefore(heap[child], last)) break;
      heap[at] = heap[child];
      at = child;
    }
    heap[at] = last;
    return first;
  }
}

function isBefore(a: Task, b: Task): boolean {
  return a.atMs < b.atMs || (a.atMs === b.atMs && a.order < b.order);
}
