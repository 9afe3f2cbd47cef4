// Each acquired resource pushes its release before the next is acquired; a failure releases them in
// reverse. One release that fails does not keep the others from running.
export type Release = () => Promise<void> | void;

export class UndoStack {
  #releases: Release[] = [];

  push(release: Release): void {
    this.#releases.push(release);
  }

  // The caller owns everything now; nothing will be undone.
  commit(): void {
    this.#releases = [];
  }

  async undo(): Promise<void> {
    const failures: unknown[] = [];
    for (let release = this.#releases.pop(); release; release = this.#releases.pop()) {
      try {
        await release();
      } catch (error) {
        failures.push(error);
      }
    }
    if (failures.length > 0) throw new AggregateError(failures, 'some resources could not be released');
  }
}
