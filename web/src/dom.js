// Elements made of values. Text goes in as text: what a client calls itself is never read as HTML.

/** An element: `h('p', 'soft', 'text', child)`; `kind` may be 'p.soft'. */
export function h(kind, properties, ...children) {
  const [tag, ...classes] = kind.split('.');
  const element = document.createElement(tag);
  if (classes.length) element.className = classes.join(' ');
  for (const [name, value] of Object.entries(properties ?? {})) {
    if (value !== undefined && value !== null) element.setAttribute(name, value);
  }
  element.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== ''));
  return element;
}

export const byId = (id) => document.getElementById(id);

/** A card's title with something small at its right. */
export const head = (title, note) => h('div.head', null, h('h2', null, title), note ? h('span.soft.small', null, note) : null);

/** A table that scrolls inside its card. `columns`: [{title, number, make(row)}]. */
export function table(label, columns, rows, empty) {
  if (rows.length === 0) return h('p.empty', null, empty);
  const cell = (tag, column, content) => h(tag + (column.number ? '.number' : '') + (column.kind ? `.${column.kind}` : ''),
    tag === 'th' ? { scope: 'col', title: column.hint } : null, content);
  return h('div.scroll', { role: 'region', tabindex: 0, 'aria-label': label },
    h('table', null,
      h('thead', null, h('tr', null, columns.map((column) => cell('th', column, column.title)))),
      h('tbody', null, rows.map((row) => h('tr', null, columns.map((column) => cell('td', column, column.make(row))))))));
}

/** Puts `parts` in the place of what an element holds, and keeps where it was scrolled to, what was
 *  open and what had the focus. */
export function fill(element, ...parts) {
  const scrolled = element.querySelector('.scroll')?.scrollLeft ?? 0;
  const open = [...element.querySelectorAll('details')].map((one) => one.open);
  const focusable = '.scroll, summary';
  const focused = [...element.querySelectorAll(focusable)].indexOf(document.activeElement);
  element.replaceChildren(...parts.flat(Infinity).filter(Boolean));
  const scroll = element.querySelector('.scroll');
  if (scroll) scroll.scrollLeft = scrolled;
  element.querySelectorAll('details').forEach((one, i) => { one.open = open[i] ?? one.open; });
  if (focused >= 0) element.querySelectorAll(focusable)[focused]?.focus({ preventScroll: true });
}
