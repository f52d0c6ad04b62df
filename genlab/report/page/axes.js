// Axes of numbers: their places, ticks and colors.

const MAX_LEVELS = 12; // a number with more values is drawn as points
const NONE_DISTANCE = 0.12; // of None from the largest number, as a share of the axis

// The places of the runs on a continuous axis: their numbers, and beyond the largest one a place for None.
function numberPlaces(parameter, runs) {
  const there = runs.map(run => parameter.numbers[run]).filter(number => number !== null);
  const [low, high] = there.length ? [Math.min(...there), Math.max(...there)] : [1, 1];
  const beyond = parameter.log ? high * Math.max(high / low, 2) ** NONE_DISTANCE : high + NONE_DISTANCE * (high - low || 1);
  return { low, high, none: there.length < runs.length ? beyond : null, of: run => parameter.numbers[run] ?? beyond };
}

// The ticks [place, ...] in rising order without those that are too close to the next one.
function spaced(ticks, distance) {
  const kept = [];
  for (const tick of [...ticks].reverse()) if (!kept.length || kept[0][0] - tick[0] >= distance) kept.unshift(tick);
  return kept;
}

function scale([low, high], log) {
  const bend = log ? Math.log10 : number => number;
  return number => (high > low ? (bend(number) - bend(low)) / (bend(high) - bend(low)) : 0.5);
}

function roundNumbers([low, high], log) {
  if (!(high > low)) return [low];
  if (log) {
    const first = Math.floor(Math.log10(low)), last = Math.ceil(Math.log10(high));
    const powers = Array.from({ length: last - first + 1 }, (_, i) => 10 ** (first + i));
    return powers.length > 5 ? powers : powers.flatMap(power => [power, 2 * power, 5 * power]);
  }
  const rough = (high - low) / 5;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map(number => number * power).find(number => number >= rough);
  const first = Math.ceil(low / step);
  return Array.from({ length: Math.floor(high / step) - first + 1 }, (_, i) => (first + i) * step);
}

function numberAxisLayout(parameter, places, ticks) {
  const bend = parameter.log ? Math.log10 : number => number;
  const [low, high] = [bend(places.low), bend(places.none ?? places.high)];
  const room = 0.05 * (high - low) || 0.5;
  const shown = spaced(ticks.map(([x, text]) => [bend(x), x, text]), 0.07 * (high - low));
  return { title: { text: plain(parameter.label) }, type: parameter.log ? 'log' : 'linear', range: [low - room, high + room],
    tickvals: shown.map(([, x]) => x), ticktext: shown.map(([, , text]) => plain(text)) };
}

function mix(share) {
  const next = SCALE.findIndex(([at]) => at >= share);
  const [[from, a], [to, b]] = [SCALE[Math.max(0, next - 1)], SCALE[Math.max(1, next)]];
  const channel = (hex, i) => parseInt(hex.slice(1 + 2 * i, 3 + 2 * i), 16);
  const part = (share - from) / (to - from);
  return `rgb(${[0, 1, 2].map(i => Math.round(channel(a, i) + part * (channel(b, i) - channel(a, i)))).join(',')})`;
}
