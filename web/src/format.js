// Numbers as the page shows them: rates of traffic in bit/s, amounts in bytes, powers of 1000.

const prefixes = ['', 'k', 'M', 'G', 'T', 'P'];

/** Three digits of `value` and the unit with its prefix: ['1.25', 'Mbit/s']. */
export function scaled(value, unit) {
  let power = 0;
  while (Math.abs(value) >= 999.5 && power + 1 < prefixes.length) {
    value /= 1000;
    ++power;
  }
  const digits = Math.abs(value) >= 99.95 ? 0 : Math.abs(value) >= 9.995 ? 1 : 2;
  const text = power === 0 && Number.isInteger(value) ? String(value) : value.toFixed(digits);
  return [text, prefixes[power] + unit];
}

export const joined = ([number, unit]) => (unit ? `${number} ${unit}` : number);

/** '1.5M', for the axes of charts. */
export function compact(value) {
  const [number, prefix] = scaled(value, '');
  return `${Number(number)}${prefix}`;
}

/** From bits per second. */
export const bits = (count) => scaled(count, 'bit/s');
/** From bytes per second. */
export const bitRate = (count) => bits(count * 8);
/** Of packets, answers and the like: ['1.25', 'k/s']. */
export function packetRate(count) {
  const [number, prefix] = scaled(count, '');
  return [number, `${prefix}/s`];
}
export const bytes = (count) => joined(scaled(count, 'B'));

/** '3d 4h', '5m 10s': two units, as `detour status` has them. */
export function duration(seconds) {
  const whole = Math.max(0, Math.floor(seconds));
  const [d, h, m, s] = [Math.floor(whole / 86400), Math.floor(whole / 3600) % 24, Math.floor(whole / 60) % 60, whole % 60];
  if (d) return `${d}d ${h}h`;
  if (h) return `${h}h ${m}m`;
  return m ? `${m}m ${s}s` : `${s}s`;
}

/** '14:05', with seconds when they are asked for, of a time in seconds. */
export function clock(seconds, withSeconds = false) {
  const at = new Date(seconds * 1000);
  const two = (n) => String(n).padStart(2, '0');
  const text = `${two(at.getHours())}:${two(at.getMinutes())}`;
  return withSeconds ? `${text}:${two(at.getSeconds())}` : text;
}
