// What is noted of a call that is over waits until its answer has left: its caller waits for the answer, and nobody
// for the notes.
const notes: (() => void)[] = [];
const waitMs = 5;

export function behindAnswer(note: () => void): void {
  if (notes.push(note) === 1) setTimeout(takeNotes, waitMs);
}

// Takes all that wait; whoever ends telemetry does not leave them behind.
export function takeNotes(): void {
  for (const note of notes.splice(0)) note();
}
