// Served below a path, an application of Next.js must know the path when it is built.
export default {
  output: 'standalone',
  outputFileTracingRoot: import.meta.dirname,
  outputFileTracingExcludes: { '*': ['node_modules/sharp/**', 'node_modules/@img/**'] }, // It shows no images.
  basePath: process.env.BASE_PATH ?? '',
};
