const here = import.meta.dirname

export default {
  outputFileTracingRoot: here,
  turbopack: { root: here },
  // Each start begins with what was built, not with what the last run regenerated.
  experimental: { isrFlushToDisk: false },
}
