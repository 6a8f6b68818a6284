// One sequence: which module every token took in every layer.

const moduleOf = {
  B: 'big',
  S: 'small',
  '-': 'skip'
};
const moduleColour = (letter) => style(`--${moduleOf[letter]}`);

// Policies of which single tokens are shown, the most telling one first.
function tokenPolicies(study) {
  const list = shownPolicies(study).map(({index, name, share}) => ({index, name, big: share.big}));
  const rank = (policy) => [
      [
        'oracle', 'oracle-free', 'router', 'label-free', 'random-token', 'schedule', 'random',
        'random-sequence', 'other', 'fixed'
      ].indexOf(familyOf(policy.name).key),
      Math.abs(policy.big - 0.5)];
  return list.sort((a, b) => rank(a)[0] - rank(b)[0] || rank(a)[1] - rank(b)[1]);
}

const sequenceOptions = (study) => study.sequences.map(
    (sequence, s) =>
        [s,
         `${sequence.row}: ${
             sequence.tokens.slice(1, 9).map(plainPiece).join('').trim().slice(0, 40) ||
             'blank'}`]);

const around = (sequence, t) => {
  const text = (from, to) => sequence.tokens.slice(Math.max(0, from), to).map(plainPiece).join('');
  return `${text(t - 4, t)}[${plainPiece(sequence.tokens[t])}]${text(t + 1, t + 4)}`;
};

function routesFigure(study, i) {
  const policies = tokenPolicies(study);
  if (study.sequences.length === 0 || policies.length === 0) return null;
  let policy = policies[0].index, sequence = study.sequences[0];
  const letter = (l, t) => sequence.routes[policy][t * study.L + l];
  const area = h('div', {class: 'map'});
  const rows = () => [
      ['position', 'token', 'next token', 'loss', 'route'],
      ...sequence.loss[policy].map(
          (loss, t) =>
              [t, sequence.tokens[t], sequence.tokens[t + 1], loss,
               sequence.routes[policy].slice(t * study.L, (t + 1) * study.L)])];
  const redraw = () => {
    const {name} = study.policies[policy], letters = [...sequence.routes[policy]];
    drawGrid(area, {
      layers: study.L,
      columns: study.T,
      least: 4,
      merge: true,
      xLabel: 'position',
      low: 0,
      high: study.T - 1,
      label: `Routes of ${name} in one sequence`,
      colour: (l, t) => moduleColour(letter(l, t)),
      read: (l, t) => `position ${t}, layer ${l}: ${moduleOf[letter(l, t)]}; token ${
                          around(sequence, t)}; route ` +
          `${
                          sequence.routes[policy].slice(
                              t * study.L, (t + 1) * study.L)}, loss of the next token ${
                          short(sequence.loss[policy][t])} nats`
    });
    const share = (wanted) =>
        percent(letters.filter((one) => one === wanted).length / letters.length);
    fig.describe(`${name}, sequence ${sequence.row}: big ${share('B')}, small ${share('S')}, skip ${
        share('-')}.`);
  };
  const controls = [
    chooser(
        `routes-policy-${i}`, 'Policy', policies.map((p) => [p.index, p.name]),
        (value) => {
          policy = Number(value);
          if (fig.started) redraw();
        }),
    chooser(
        `routes-sequence-${i}`, 'Sequence', sequenceOptions(study),
        (value) => {
          sequence = study.sequences[Number(value)];
          if (fig.started) redraw();
        }),
  ];
  const fig = figure(`routes-${i + 1}`, studyTitle('Routes of one sequence', i), {
    rows,
    redraw,
    wide: true,
    caption:
        'Each column is a token, the first layer at the bottom. The token under the pointer is ' +
        'named below; in brackets, among its neighbours.'
  });
  const keys = Object.entries(moduleOf).map(([, name]) => {
    const key = h('span', {class: 'key'});
    key.style.background = `var(--${name})`;
    return [key, name];
  });
  fig.body.append(
      h('div', {class: 'controls'}, controls.map((control) => control.node)), area,
      h('p', {class: 'scale'}, keys));
  fig.start = () => {
    for (const control of controls) control.start();
    fig.started = true;
    redraw();
  };
  return fig;
}
