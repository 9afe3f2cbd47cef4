// What became of a sandbox whose pause, resume or live snapshot nobody saw the end of, as its host tells. A
// host still at work on it is waited for; what could cost a sandbox is believed at the second look only.

// Of `running`: one whose host was asked for a snapshot.
export type UnsettledState = 'pausing' | 'resuming' | 'running';

export interface Evidence {
  readonly vm: 'none' | 'running' | 'changing' | 'dead';
  // The one that it was being frozen into is there, and that it is to go on from there instead of being paused.
  readonly hasNext: boolean;
  readonly keepsRunning: boolean;
  // The last look was the same.
  readonly isSecondLook: boolean;
  // Whatever the host was asked is over by now.
  readonly isOld: boolean;
}

export type Verdict =
  | 'wait'
  | 'paused' // On the new snapshot.
  | 'running' // The pause did not happen, or the resume did.
  | 'thawed' // Back to paused, on the same snapshot as before.
  | 'adopt' // It goes on from the new snapshot.
  | 'abandon' // There is no new snapshot, and will be none.
  | 'lost' // Neither VM nor snapshot.
  | 'none'; // Nothing to settle: its VM is gone like that of any other.

export function verdictOn(state: UnsettledState, evidence: Evidence): Verdict {
  if (state === 'pausing') return verdictOnPausing(evidence);
  if (state === 'resuming') return verdictOnResuming(evidence);
  return verdictOnRunning(evidence);
}

function verdictOnPausing({ vm, hasNext, isSecondLook, isOld }: Evidence): Verdict {
  if (vm === 'changing') return 'wait';
  if (vm === 'running') {
    if (hasNext) return isOld ? 'running' : 'wait';
    return isSecondLook || isOld ? 'running' : 'wait';
  }
  if (hasNext) return 'paused';
  return isSecondLook ? 'lost' : 'wait';
}

function verdictOnResuming({ vm, isSecondLook, isOld }: Evidence): Verdict {
  if (vm === 'running') return 'running';
  if (vm === 'changing') return isOld ? 'thawed' : 'wait';
  return vm === 'dead' || isSecondLook ? 'thawed' : 'wait';
}

function verdictOnRunning({ vm, hasNext, keepsRunning, isSecondLook, isOld }: Evidence): Verdict {
  if (vm === 'changing') return 'wait';
  if (vm === 'running') {
    if (hasNext && keepsRunning) return 'adopt';
    return isOld ? 'abandon' : 'wait';
  }
  // One that went on from its snapshot and died then is as dead as any other.
  if (!hasNext || (vm === 'dead' && keepsRunning)) return 'none';
  return isSecondLook ? 'paused' : 'wait';
}
