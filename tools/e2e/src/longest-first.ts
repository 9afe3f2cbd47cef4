// The files that take longest begin first: one that began last would run beside nothing. vitest knows how long each
// took only from an earlier run, of which a fresh clone has none.
import { BaseSequencer, type TestSpecification } from 'vitest/node';

// What moves most bytes stands beside what waits most.
const longest = [
  'foreign-transfers',
  'guest-faults',
  'snapshots',
  'browser',
  'races',
  'restarts',
  'supervisor',
  'faults',
];

export class LongestFirst extends BaseSequencer {
  override async sort(files: TestSpecification[]): Promise<TestSpecification[]> {
    const rank = ({ moduleId }: TestSpecification) => {
      const place = longest.findIndex((name) => moduleId.endsWith(`/${name}.test.ts`));
      return place < 0 ? longest.length : place;
    };
    return (await super.sort(files)).toSorted((one, other) => rank(one) - rank(other));
  }
}
