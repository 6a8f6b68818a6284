// What all figures share: elements, numbers, colours, and the frame of a figure.

const data = JSON.parse(document.getElementById('data').textContent);

// h('p', {class: 'note'}, 'text', node): texts are never read as HTML.
function h(tag, attributes = {}, ...children) {
  const svg = ['svg', 'rect', 'text', 'g', 'title'].includes(tag);
  const node = svg ? document.createElementNS('http://www.w3.org/2000/svg', tag) :
                     document.createElement(tag);
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith('on'))
      node.addEventListener(key.slice(2), value);
    else if (value === true)
      node.setAttribute(key, '');
    else if (value !== false && value !== undefined && value !== null)
      node.setAttribute(key, value);
  }
  node.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined));
  return node;
}

/* ---------------------------------------------------------------- numbers */

const known = (value) => typeof value === 'number' && Number.isFinite(value);
const sum = (values) => values.reduce((a, b) => a + b, 0);
const mean = (values) => sum(values) / values.length;

function short(value, digits = 4) {
  if (!known(value)) return 'unknown';
  if (value === 0) return '0';
  const size = Math.abs(value);
  if (size >= 1e5 || size < 1e-4) {
    for (const [unit, name] of [[1e12, 'T'], [1e9, 'G'], [1e6, 'M'], [1e3, 'k']])
      if (size >= unit) return `${+ (value / unit).toPrecision(digits)} ${name}`;
    return value.toExponential(digits - 2);
  }
  return String(+value.toPrecision(digits));
}

const percent = (value) => (known(value) ? `${(100 * value).toFixed(1)} %` : 'unknown');
const plusMinus = (value, error, digits = 5) =>
    short(value, digits) + (known(error) ? ` \u00b1 ${short(error, 2)}` : '');
const plural = (n, noun) => `${n} ${noun}${n === 1 ? '' : 's'}`;

/* ---------------------------------------------------------------- colours */

// Okabe and Ito: told apart with every kind of colour vision. Yellow and black are left out since
// one of them vanishes on each background.
const lineColours = ['#0072b2', '#d55e00', '#009e73', '#cc79a7', '#e69f00', '#56b4e9'];
const dark = window.matchMedia('(prefers-color-scheme: dark)');
const lineColour = (i) =>
    (i % 6 === 0 && dark.matches ? '#4aa3df' : lineColours[i % lineColours.length]);
const style = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

function between(stops, share) {
  const at = Math.max(0, Math.min(1, share)) * (stops.length - 1),
        i = Math.min(Math.floor(at), stops.length - 2);
  return stops[i].map((a, c) => Math.round(a + (stops[i + 1][c] - a) * (at - i)));
}

// Cividis in five stops; lightness rises all the way, so it also reads in grey.
const shares = [[0, 32, 77], [65, 77, 107], [124, 123, 120], [188, 175, 111], [255, 234, 70]];
const losses = [[255, 255, 255], [253, 224, 178], [245, 166, 92], [203, 87, 36], [112, 32, 12]];
const belowZero = [[255, 255, 255], [178, 211, 236], [86, 156, 209], [20, 88, 150], [6, 42, 84]];
const css = ([r, g, b]) => `rgb(${r},${g},${b})`;
const shareColour = (share) => css(between(shares, share));

// Ink that can be read on a ground: by relative luminance.
function inkOn([r, g, b]) {
  const linear =
      [r, g, b].map((v) => (v / 255 <= 0.04045 ? v / 3294.6 : ((v / 255 + 0.055) / 1.055) ** 2.4));
  return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2] > 0.18 ? '#111111' :
                                                                               '#ffffff';
}

/* ---------------------------------------------------------------- saying, copying, keeping */

const say = (text) => {
  document.getElementById('said').textContent = text;
};

function csvText(rows) {
  const cell = (value) => {
    const text = value === null || value === undefined ? '' : String(value);
    return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
  };
  return rows.map((row) => row.map(cell).join(',')).join('\n') + '\n';
}

async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    const area = h('textarea', {class: 'unseen'});
    area.value = text;
    document.body.append(area);
    area.select();
    const done = document.execCommand('copy');
    area.remove();
    return done;
  }
}

// Choices outlive the page's loading itself anew while it follows a run.
const kept = (() => {
  const key = `duo report ${location.pathname}`;
  let values = {};
  try {
    values = JSON.parse(sessionStorage.getItem(key)) || {};
  } catch {
    values = {};
  }
  return {
    get: (name) => values[name],
    set(name, value) {
      values[name] = value;
      try {
        sessionStorage.setItem(key, JSON.stringify(values));
      } catch { /* not allowed: not kept */
      }
    },
  };
})();

/* ---------------------------------------------------------------- figures */

const figures = [];

// A figure with its heading, a button that copies its data, a caption, and a text for those who
// do not see it. rows() gives the data, heading row first; its colours follow `redraw`.
function figure(id, title, {caption = '', wide = false, rows, redraw = () => {}}) {
  const button =
      h('button', {
        type: 'button',
        'aria-label': `Copy data as CSV: ${title}`,
        onclick: async () => {
          const done = await copy(csvText(rows()));
          button.textContent = done ? 'Copied' : 'Not allowed';
          say(done ? `Data of ${title} copied` : 'The browser does not allow copying');
          setTimeout(() => {
            button.textContent = 'Copy CSV';
          }, 1500);
        }
      },
        'Copy CSV');
  const alternative = h('p', {class: 'unseen alternative', id: `${id}-text`});
  const body = h('div', {class: 'body'});
  const root =
      h('figure', {
        id,
        class: wide ? 'wide' : null,
        'aria-labelledby': `${id}-title`,
        'aria-describedby': `${id}-text`
      },
        h('div', {class: 'head'}, h('h3', {id: `${id}-title`}, title), button), body, alternative,
        h('figcaption', {}, caption));
  const self = {
    id,
    title,
    root,
    body,
    rows,
    redraw,
    describe: (text) => {
      alternative.textContent = text;
    }
  };
  figures.push(self);
  return self;
}

// Radio buttons whose choice is kept. options: [value, label]; change(value) is called at once.
function switcher(name, legend, options, change) {
  const values = options.map(([value]) => String(value));
  let current = values.includes(kept.get(name)) ? kept.get(name) : values[0];
  const choose = (value) => {
    current = value;
    kept.set(name, value);
    change(value);
  };
  const group =
      h('fieldset', {}, h('legend', {}, legend),
        options.map(
            ([value, label]) =>
                h('label', {}, h('input', {
                    type: 'radio',
                    name,
                    value,
                    checked: String(value) === current,
                    onchange: () => choose(String(value))
                  }),
                  label)));
  return {node: group, start: () => change(current)};
}

function chooser(name, label, options, change) {
  const values = options.map(([value]) => String(value));
  const current = values.includes(kept.get(name)) ? kept.get(name) : values[0];
  const select =
      h('select', {
        name,
        onchange: () => {
          kept.set(name, select.value);
          change(select.value);
        }
      },
        options.map(
            ([value, text]) => h('option', {value, selected: String(value) === current}, text)));
  return {node: h('label', {}, label, select), start: () => change(select.value)};
}

function table(headings, rows, numbers = []) {
  const kind = (i) => (numbers.includes(i) ? 'number' : null);
  return h(
      'div', {class: 'scroll', tabindex: 0, role: 'region', 'aria-label': 'Table'},
      h('table', {},
        h('thead', {},
          h('tr', {}, headings.map((text, i) => h('th', {scope: 'col', class: kind(i)}, text)))),
        h('tbody', {},
          rows.map((row) => h('tr', {}, row.map((cell, i) => h('td', {class: kind(i)}, cell)))))));
}
