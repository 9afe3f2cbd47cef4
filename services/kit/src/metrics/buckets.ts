// Bounds of histograms. Few, because every series of a histogram costs one line of each scrape per bound.

// From the time of a message to that of a boot.
export const secondsBounds = [
  0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60,
] as const;

// How late something is that should take no time.
export const delayBounds = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5] as const;

export const bytesBounds = [4096, 65_536, 1_048_576, 16_777_216, 134_217_728, 1_073_741_824, 8_589_934_592] as const;
