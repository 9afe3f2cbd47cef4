// Waits for every one of them to end, also when some fail; throws what failed as one.
export async function allOf(...works: Promise<void>[]): Promise<void> {
  const failures = (await Promise.allSettled(works)).filter((result) => result.status === 'rejected');
  if (failures.length > 0) throw new AggregateError(failures.map((failure) => failure.reason));
}
