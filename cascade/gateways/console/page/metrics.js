// Prometheus text -> samples, and what two scrapes say together: rates, shares, quantiles of histograms.

const LINE = /^([a-zA-Z_:][\w:]*)(?:\{(.*)\})? (\S+)(?: \d+)?$/;
const LABEL = /([a-zA-Z_]\w*)="((?:[^"\\]|\\.)*)"/g;
const ESCAPED = { "\\n": "\n", '\\"': '"', "\\\\": "\\" };

/** One scrape. */
export class Scrape {
  constructor(text, at) {
    this.at = at;
    this.samples = new Map();
    for (const line of text.split("\n")) {
      const found = line.startsWith("#") ? null : LINE.exec(line);
      if (!found) continue;
      const labels = Object.fromEntries([...(found[2] ?? "").matchAll(LABEL)].map(([, name, value]) => [name, value.replace(/\\[n"\\]/g, (two) => ESCAPED[two])]));
      if (!this.samples.has(found[1])) this.samples.set(found[1], []);
      this.samples.get(found[1]).push({ labels, value: Number(found[3].replace("Inf", "Infinity")) });
    }
  }

  has(name) {
    return this.samples.has(name);
  }

  /** The samples of a name whose labels are as wanted. */
  all(name, wanted = {}) {
    return (this.samples.get(name) ?? []).filter(({ labels }) => Object.entries(wanted).every(([key, value]) => labels[key] === value));
  }

  /** Their sum over all workers and other labels. */
  sum(name, wanted) {
    return this.all(name, wanted).reduce((sum, sample) => sum + sample.value, 0);
  }

  /** Sums by one label: {value of the label: sum}. */
  by(name, label, wanted) {
    const found = {};
    for (const { labels, value } of this.all(name, wanted)) found[labels[label]] = (found[labels[label]] ?? 0) + value;
    return found;
  }
}

/** By how much a counter grew between two scrapes; from 0 where the server was started again. */
export function grown(before, after, name, wanted) {
  const now = after.sum(name, wanted), then = before?.sum(name, wanted) ?? 0;
  return now >= then ? now - then : now;
}

/**
 * Quantiles of what a histogram took in between two scrapes, in its own unit; linear within a bucket, as PromQL's
 * histogram_quantile. NaN where nothing came.
 */
export function quantiles(before, after, name, wanted, shares) {
  const buckets = after.by(`${name}_bucket`, "le", wanted), old = before ? before.by(`${name}_bucket`, "le", wanted) : {};
  const edges = Object.keys(buckets).map((le) => [le === "+Inf" ? Infinity : Number(le), buckets[le] - (old[le] ?? 0)]).sort((a, b) => a[0] - b[0]);
  if (edges.some(([, value]) => value < 0)) return quantiles(null, after, name, wanted, shares); // started again
  const total = edges.at(-1)?.[1] ?? 0;
  return shares.map((share) => {
    if (!total) return NaN;
    const rank = share * total, at = edges.findIndex(([, value]) => value >= rank);
    const [low, below] = at > 0 ? edges[at - 1] : [0, 0];
    const [high, upto] = edges[at];
    return high === Infinity ? low : low + (high - low) * ((rank - below) / Math.max(upto - below, 1e-12));
  });
}
