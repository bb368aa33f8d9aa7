// What the reader chose. Kept in this browser where it lets us.

const read = (store, name) => { try { return store()?.getItem(name) ?? ''; } catch { return ''; } };
const write = (store, name, value) => { try { store()?.setItem(name, value); } catch { /* Private mode: not kept. */ } };
const lasting = () => window.localStorage;
const ofTab = () => window.sessionStorage;

export const language = {
  get: () => read(lasting, 'detour.language') || ((navigator.language || '').toLowerCase().startsWith('zh') ? 'zh' : 'en'),
  set: (value) => write(lasting, 'detour.language', value),
};

export const theme = {
  get: () => read(lasting, 'detour.theme') || 'auto',
  set: (value) => write(lasting, 'detour.theme', value),
};

/** Kept for this tab alone: whoever opens the browser later is asked again. */
let given = '';
export const token = {
  get: () => given || read(ofTab, 'detour.token'),
  set: (value) => { given = value; write(ofTab, 'detour.token', value); },
};
