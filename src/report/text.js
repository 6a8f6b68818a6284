// Text whose tokens are coloured by what they cost to predict.

// Characters that would move others around, or that are nothing to see, are shown as their names.
const named = {
  0x200e: 'LRM',
  0x200f: 'RLM',
  0x202a: 'LRE',
  0x202b: 'RLE',
  0x202c: 'PDF',
  0x202d: 'LRO',
  0x202e: 'RLO',
  0x2066: 'LRI',
  0x2067: 'RLI',
  0x2068: 'FSI',
  0x2069: 'PDI',
  0x061c: 'ALM',
  0x200b: 'ZWSP',
  0x2060: 'WJ',
  0xfeff: 'BOM',
  0x7f: 'DEL'
};

function visible(character) {
  const code = character.codePointAt(0);
  if (named[code]) return `[${named[code]}]`;
  if (code < 0x20) return String.fromCodePoint(0x2400 + code);
  if (code >= 0x80 && code < 0xa0) return `[${code.toString(16)}]`;
  return null;
}

// A piece of one byte is written <0xNN>.
const byteOf = (piece) =>
    (/^<0x[0-9A-F]{2}>$/.test(piece) ? parseInt(piece.slice(3, 5), 16) : null);
function characters(piece) {
  const byte = byteOf(piece);
  return byte !== null && byte < 0x80 ? [String.fromCharCode(byte)] : [...piece];
}

// On one line, for lists and read-outs.
const plainPiece = (piece) =>
    characters(piece).map((c) => (c === '\n' ? '\u21b5' : visible(c) || c)).join('');

// With its line breaks, as nodes of text only.
function pieceNodes(piece) {
  return characters(piece).flatMap((c) => {
    if (c === '\n') return [h('i', {}, '\u21b5'), '\n'];
    if (c === '\t') return ['\t'];
    const name = visible(c);
    return [name ? h('i', {}, name) : c];
  });
}

/* ---------------------------------------------------------------- colours */

const GAP_TOP = 3;
const lossTop = (study) => Math.max(4, 1.2 * Math.log(study.vocabulary || 4096));

function costColour(value, top) {
  return value < 0 ? between(belowZero, -value / top) : between(losses, value / top);
}

function costScale(what, top) {
  const stops = (list, from, to) =>
      list.map((stop, i) => `${css(stop)} ${from + (to - from) * i / (list.length - 1)}%`);
  const signed = what === 'gap';
  const ramp = h('span', {class: 'ramp'});
  ramp.style.background = `linear-gradient(to right,${
      (signed ? [...stops([...belowZero].reverse(), 0, 50), ...stops(losses, 50, 100)] :
                stops(losses, 0, 100))
          .join(',')})`;
  return h(
      'p', {class: 'scale'}, signed ? `gap in nats: \u2212${top}` : 'loss in nats: 0', ramp,
      `${short(top, 3)} and above`);
}

/* ---------------------------------------------------------------- figure */

function textFigure(study, i) {
  const policies = tokenPolicies(study);
  if (study.sequences.length === 0 || policies.length === 0) return null;
  const index = (name) => study.policies.findIndex((policy) => policy.name === name);
  const small = index('small'), big = index('big');
  const others = policies.filter((policy) => policy.index !== small && policy.index !== big);
  let chosen = others.length > 0 ? others[0].index : -1, by = '', sequence = study.sequences[0],
      current = -1;

  const value = (t) => {
    if (by === 'gap') return sequence.loss[small][t] - sequence.loss[chosen][t];
    return sequence.loss[{small, big, chosen}[by]][t];
  };
  const name = () => (by === 'chosen' ? study.policies[chosen].name : by);
  const options =
      [
        [small, 'small', 'small'], [big, 'big', 'big'], [chosen, 'chosen', h('span')],
        [small < 0 ? -1 : chosen, 'gap', 'gap']
      ].filter(([present]) => present >= 0)
          .map(([, key, label]) => [key, label]);
  const chosenLabel = (options.find(([key]) => key === 'chosen') || [])[1];

  const text = h('div', {
    class: 'text',
    tabindex: 0,
    dir: 'ltr',
    role: 'group',
    'aria-label': 'Tokens. Arrow keys read them.'
  });
  const readout = h('p', {class: 'readout'}), scale = h('div');
  const rows = () => [
      ['position', 'token', ...study.policies.map((policy) => `loss ${policy.name}`)],
      ...sequence.loss[0].map(
          (_, t) => [t, sequence.tokens[t + 1], ...sequence.loss.map((loss) => loss[t])])];

  const describe = (t) => {
    const parts =
        [[small, 'small'], [big, 'big'], [chosen, chosen >= 0 ? study.policies[chosen].name : '']]
            .filter(([p]) => p >= 0)
            .map(([p, label]) => `${label} ${short(sequence.loss[p][t])}`);
    const gap = small >= 0 && chosen >= 0 ?
        `; gap ${short(sequence.loss[small][t] - sequence.loss[chosen][t])}` :
        '';
    const route = chosen >= 0 ?
        `; route ${sequence.routes[chosen].slice(t * study.L, (t + 1) * study.L)}` :
        '';
    return `\u201c${plainPiece(sequence.tokens[t + 1])}\u201d, position ${t}: ${
        parts.join(', ')} nats${gap}${route}`;
  };
  const show = (t, aloud) => {
    if (text.children[current + 1]) text.children[current + 1].classList.remove('current');
    current = t;
    text.children[t + 1].classList.add('current');
    readout.textContent = describe(t);
    if (aloud) say(describe(t));
  };
  text.addEventListener('pointermove', (event) => {
    const span = event.target.closest('span');
    if (span && span.dataset.t !== undefined) show(Number(span.dataset.t), false);
  });
  text.addEventListener('keydown', (event) => {
    const step = {ArrowRight: 1, ArrowLeft: -1, ArrowDown: 10, ArrowUp: -10}[event.key];
    if (!step) return;
    event.preventDefault();
    show(Math.max(0, Math.min(study.T - 1, current + step)), true);
  });

  const redraw = () => {
    const top = by === 'gap' ? GAP_TOP : lossTop(study);
    const spans = sequence.loss[0].map((_, t) => {
      const ground = costColour(value(t), top);
      const span =
          h('span', {'data-t': t, 'data-value': value(t).toFixed(4)},
            pieceNodes(sequence.tokens[t + 1]));
      span.style.background = css(ground);
      span.style.color = inkOn(ground);
      return span;
    });
    current = -1;
    readout.textContent = '';
    text.replaceChildren(h('span', {class: 'first'}, pieceNodes(sequence.tokens[0])), ...spans);
    scale.replaceChildren(costScale(by, top));
    const values = sequence.loss[0].map((_, t) => value(t));
    const hardest = values.map((v, t) => [v, t]).sort((a, b) => b[0] - a[0]).slice(0, 5);
    fig.describe(
        `Sequence ${sequence.row} by ${name()}: mean ${short(mean(values))} nats; highest at ` +
        `${
            hardest
                .map(([v,
                       t]) => `\u201c${plainPiece(sequence.tokens[t + 1])}\u201d (${short(v, 3)})`)
                .join(', ')}.`);
  };
  const change = (set) => (v) => {
    set(v);
    if (fig.started) redraw();
  };
  const controls = [switcher(`text-by-${i}`, 'Colour by', options, change((v) => {
                               by = v;
                             }))];
  if (others.length > 0)
    controls.push(chooser(
        `text-policy-${i}`, others.length > 1 ? 'Compared policy' : 'Policy',
        others.map((p) => [p.index, p.name]), change((v) => {
          chosen = Number(v);
          if (chosenLabel) chosenLabel.textContent = study.policies[chosen].name;
        })));
  controls.push(chooser(`text-sequence-${i}`, 'Sequence', sequenceOptions(study), change((v) => {
                          sequence = study.sequences[Number(v)];
                        })));
  const fig = figure(`text-${i + 1}`, studyTitle('Difficulty of tokens', i), {
    rows,
    redraw,
    wide: true,
    caption:
        'Each token is coloured by the loss with which it was predicted. The gap is the loss with ' +
        'all small less that of the compared policy: what compute can buy, where the loss alone ' +
        'also holds what nobody can know.'
  });
  fig.body.append(
      h('div', {class: 'controls'}, controls.map((control) => control.node)), text, readout, scale);
  fig.start = () => {
    for (const control of controls) control.start();
    fig.started = true;
    redraw();
  };
  return fig;
}
