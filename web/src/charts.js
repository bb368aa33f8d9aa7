// The charts of the last hour: uPlot draws, this says what.
import uPlot from 'uplot';
import { clock, compact, joined } from './format.js';
import { h } from './dom.js';

const height = 180;
const shortest = 300; // Seconds that a chart shows at least.
const longest = 3600;

const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

/** One chart in a card. `series`: [{name: 'received', column}], the name being that of the colour;
 *  values are those of the column times `factor`. `format` gives [number, unit] of a value. */
export class Chart {
  constructor(card, series, format, factor = 1) {
    Object.assign(this, { card, series, format, factor, hovered: null });
    this.title = h('h2');
    this.values = series.map(() => h('b'));
    this.names = series.map(() => h('span'));
    this.legend = h('div.legend', { 'aria-hidden': 'true' },
      series.map((one, i) => h('span', null, h(`span.key.${one.name}`), this.names[i], ' ', this.values[i])));
    this.place = h('div.plot', { role: 'img' });
    card.replaceChildren(h('header', null, this.title, this.legend), this.place);
    this.data = [[], ...series.map(() => [])];
    this.plot = new uPlot(this.options(), this.data, this.place);
    new ResizeObserver(() => this.plot.setSize({ width: this.place.clientWidth, height })).observe(this.place);
  }

  options() {
    const axis = { stroke: () => colour('--soft'), grid: { stroke: () => colour('--grid'), width: 1 }, ticks: { show: false }, font: '11px system-ui, sans-serif', gap: 6 };
    return {
      width: Math.max(this.place.clientWidth, 200), height, padding: [10, 14, 0, 0],
      legend: { show: false },
      cursor: { sync: { key: 'detour' }, y: false, points: { size: 6 }, drag: { x: false, y: false, setScale: false } },
      scales: {
        x: { time: true, range: () => this.range() },
        y: { range: (_, __, most) => [0, most > 0 ? most * 1.08 : 1] },
      },
      axes: [
        { ...axis, space: 46, size: 26, incrs: [60, 120, 300, 600, 900, 1800], values: (_, splits) => splits.map((at) => clock(at)) },
        { ...axis, size: 48, space: 34, values: (_, splits) => splits.map(compact) },
      ],
      // What comes in mostly goes out: the second line is dashed, so that both are seen.
      series: [{}, ...this.series.map((one, i) => ({
        stroke: () => colour(`--${one.name}`), width: 1.75, points: { show: false },
        ...(i === 0 ? { fill: () => `${colour(`--${one.name}`)}1f` } : { dash: [5, 4] }),
      }))],
      hooks: { setCursor: [(plot) => { this.hovered = plot.cursor.idx; this.showValues(); }] },
    };
  }

  range() {
    const times = this.data[0];
    const end = times.at(-1) ?? Date.now() / 1000;
    const first = times[0] ?? end;
    return [Math.max(end - longest, Math.min(first, end - shortest)), end];
  }

  /** `rows` are those of the history, oldest first. */
  show(rows) {
    this.data = [rows.map((row) => row.at), ...this.series.map((one) => rows.map((row) => row[one.column] * this.factor))];
    this.plot.setData(this.data);
    this.showValues();
  }

  /** `now` has what the newest value is, where nothing is pointed at. */
  label(title, names, now, describe) {
    this.now = now.map((value) => value * this.factor);
    this.title.textContent = title;
    names.forEach((name, i) => { this.names[i].textContent = name; });
    this.showValues();
    const values = names.map((name, i) => `${name} ${joined(this.format(this.now[i]))}`).join(', ');
    this.place.setAttribute('aria-label', describe(title, values));
  }

  showValues() {
    const at = this.hovered ?? null;
    this.values.forEach((element, i) => {
      const value = at === null ? this.now?.[i] : this.data[i + 1][at];
      element.textContent = value === undefined || value === null ? '–' : joined(this.format(value));
    });
    this.title.dataset.at = at === null ? '' : clock(this.data[0][at], true);
  }

  /** After colours have changed. */
  redraw() { this.plot.redraw(false); }
}
