// Pages are compressed by whoever stands in front, as with the other servers of the benchmark.
export default { compress: false, poweredByHeader: false };
