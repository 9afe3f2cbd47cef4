import { msOfDuration } from '@wrenn/kit/duration';
import type { ProcessServiceExecRequest } from '@wrenn/proto/wrenn/v1/process';
import type { SandboxServiceCreateRequest } from '@wrenn/proto/wrenn/v1/sandbox';

const createMs = 120_000;
const longestQueueMs = 600_000;
const defaultExecMs = 60_000;
const longestExecMs = 24 * 60 * 60_000;
// For the end of what is killed at the timeout, and the answer.
const execMarginMs = 20_000;

// What a call that brings no deadline gets, as promised in proto/wrenn/v1.
export const deadlinesMs = {
  // The time in the queue comes on top.
  'SandboxService/Create': ({ queueTimeout }: Pick<SandboxServiceCreateRequest, 'queueTimeout'>) =>
    createMs + Math.min(Math.max(queueTimeout ? msOfDuration(queueTimeout) : 0, 0), longestQueueMs),
  'SandboxService/Pause': 60_000,
  'SandboxService/Resume': 60_000,
  'SandboxService/Fork': 120_000,
  'SandboxService/Destroy': 60_000,
  'SnapshotService/Create': 600_000,
  // A timeout out of bounds is for vm-runtime to refuse; here it must only not break a timer.
  'ProcessService/Exec': ({ timeout }: Pick<ProcessServiceExecRequest, 'timeout'>) => {
    const timeoutMs = timeout ? msOfDuration(timeout) : defaultExecMs;
    return Math.min(Math.max(timeoutMs, 0), longestExecMs) + execMarginMs;
  },
};
