import type { ArmName } from '../settings.js';
import type { Stage } from '../stage.js';

/** The moment between two steps: the one that ended has been accounted, the next has not begun. */
export interface Boundary {
  stage: Stage;
  timeMs: number;
  /** What was asked for in the step that ended, tokens per bucket. */
  demand: Float64Array;
  /** Index of the first request of the step that begins. */
  nextRequest: number;
}

/** A contestant: decides at every boundary what each bucket gets. */
export interface Arm {
  readonly name: ArmName;
  /** Which of several contestants of that name. */
  readonly variant?: string;
  /** False: it goes without corrections, whatever the settings. */
  readonly adjusts?: boolean;
  /** Comes on the stage, before anything happens there. */
  enter?(stage: Stage): void;
  /** Allocates on the stage. Synchronous arms return nothing, so that they cost no turn of the event loop. */
  plan?(boundary: Boundary): void | Promise<void>;
  /** Allocates anew within a step, because demand runs over what was expected by so many tokens/s per bucket. */
  replan?(stage: Stage, extraPerSec: Float64Array): void;
  /** Its own fast loop, ten times a second, in place of the stage's. */
  tick?(timeMs: number): void;
  close?(): Promise<void>;
}
