// How V8 keeps the heap of a process that passes bytes on. Those bytes stand outside its heap, for moments, in objects
// that are small. V8 on its own makes a full collection of each 64 MiB of them: half of the processor time of a
// transfer's services went there (docs/performance.md, "Files").
export const passingBytes: readonly string[] = [
  // They count like the heap itself, whose limit grows with what lives.
  '--external-memory-accounted-in-global-limit',
  // In MiB: a first limit with room for what comes between two young collections, which are cheap and free it all.
  '--initial-old-space-size=128',
];
