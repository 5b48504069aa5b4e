// Made-up rows, the same at every load, so that the explorer can be tried before there is a score file.

const ROWS = 2000;

/** Rows of which about one in five is unsafe; stage 2 is a bit surer than stage 1. They measure no model. */
export function madeUp() {
  const draw = randomly(7);
  return Array.from({ length: ROWS }, () => {
    const unsafe = draw() < 0.2;
    const hidden = (unsafe ? 1.3 : -2.2) + 1.6 * normal(draw);
    const [stage1, stage2] = [hidden + 0.9 * normal(draw), hidden + 0.5 * normal(draw)].map((z) => 1 / (1 + Math.exp(-z)));
    return { unsafe, labels: [], stage1, stage2, stage1Labels: {}, hazards: {}, stage1Hazards: {}, triggers: draw() < 0.02 ? ["unread_script"] : [] };
  });
}

/** Mulberry32: numbers from 0 to 1. */
function randomly(seed) {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4294967296;
  };
}

/** Box and Muller (1958). */
function normal(draw) {
  return Math.sqrt(-2 * Math.log(1 - draw())) * Math.cos(2 * Math.PI * draw());
}
