// Perplexity against the number of big layers: what routes files and .json files know of it.

const families = [
  {key: 'oracle', label: 'oracle', test: /^oracle-\d+$/},
  {key: 'router', label: 'router', test: /^router/},
  {key: 'fixed', label: 'fixed pattern', test: /^(fixed(-\d+)?|pattern:.*|small|big|skip)$/},
  {
    key: 'random-sequence',
    label: 'random, best per sequence',
    test: /^random-per-sequence(-\d+)?$/
  },
  {key: 'random-token', label: 'random, best per token', test: /^random-per-token(-\d+)?$/},
  {key: 'label-free', label: 'oracle without the label', test: /^label-free(-\d+)?$/},
  {key: 'random', label: 'random routes', test: /^random:/},
  {key: 'schedule', label: 'budget schedules', test: /^schedule/},
  {key: 'oracle-free', label: 'oracle, no budget or another context', test: /^oracle\b/},
  {key: 'other', label: 'other policies', test: /./},
];
const familyOf = (name) => families.find((family) => family.test.test(name));

// The name that a search has in a file does not say its budget; what two files hold counts once.
function oracleName(study, file) {
  const alike = study.files.every(
      (other) => !/^oracle/.test(other.policy) ||
          (other.context === file.context && other.modules === file.modules));
  const name = !file.budget || file.budget === 'none' ? 'oracle' :
      /^\d+$/.test(file.budget)                       ? `oracle-${file.budget}` :
                                                        `oracle ${file.budget}`;
  return alike ? name : `${name} (${file.modules}; ${file.context})`;
}

for (const study of data.studies) {
  const seen = new Set();
  for (const file of study.files) {
    const text = file.curves ? JSON.stringify(file.curves.oracle) : '';
    if (seen.has(text)) delete file.curves;
    if (text) seen.add(text);
  }
  const fileName = (policy) => study.files[policy.file].path.split('/').pop().replace(/\.h5$/, '');
  // Of several files: named as one, and not the same.
  const isRouter = (policy) => /^router(:|$)/.test(policy.name);
  const differ = study.policies.filter(
      (policy) => isRouter(policy) &&
          study.policies.some(
              (other) => other.name === policy.name && other.loss !== policy.loss));
  study.policies.forEach((policy, index) => {
    policy.index = index;
    if (policy.name === 'oracle') policy.name = oracleName(study, study.files[policy.file]);
    if (differ.includes(policy)) policy.name += ` ${fileName(policy)}`;
    policy.again = study.policies.slice(0, index).some(
        (other) => other.loss === policy.loss &&
            (other.name === policy.name || policy.name.startsWith('file:')));
  });
}

// Losses on targets drawn from the model tell of hindsight, not of the text.
const onDrawnTargets = (name) => /^control|-drawn$/.test(name);
const shownPolicies = (study) =>
    study.policies.filter((policy) => !policy.again && !onDrawnTargets(policy.name));

/* ---------------------------------------------------------------- gathering */

function fromPolicy(policy, layers) {
  return {
    name: policy.name,
    big: +(policy.share.big * layers).toFixed(6),
    loss: policy.loss,
    error: policy.loss_error,
    perplexity: policy.perplexity
  };
}

// One line of `duo eval --json`.
function fromLine(line) {
  const layers = line.usage && line.usage.big ? line.usage.big.length : NaN;
  return {
    name: line.policy,
    big: bigShare(line) * layers,
    loss: line.loss,
    error: line.loss_error,
    perplexity: line.perplexity
  };
}

// A row of `duo oracle --json`; its name says the budget again.
function fromRow(row, layers) {
  const big = known(row.big_share) ? +(row.big_share * layers).toFixed(6) : row.big;
  return {
    name: known(row.big) ? `${row.policy}-${row.big}` : row.policy,
    big,
    loss: row.loss,
    error: row.loss_error,
    perplexity: row.perplexity
  };
}

function estimates(name, curve) {
  return (curve || []).map(([loss, error], b) => ({
                             name: `${name}-${b}`,
                             big: b,
                             loss,
                             error,
                             perplexity: loss === null ? NaN : Math.exp(loss)
                           }));
}

const curvesOf = (study) => study.files.map((file) => file.curves).filter(Boolean);

function fromStudy(study) {
  return {
    key: `${study.language_hash} ${study.R} ${study.T}`,
    layers: study.L,
    tokens: study.R * study.T,
    study,
    source: study.files.map((file) => file.path).join(', '),
    points: [
      ...shownPolicies(study).map((policy) => fromPolicy(policy, study.L)),
      ...curvesOf(study).flatMap((curves) => estimates('oracle', curves.oracle)),
      ...curvesOf(study).flatMap((curves) => estimates('label-free', curves.label_free)),
    ],
    hindsight: [
      ...curvesOf(study).filter((curves) => curves.gain).map(hindsightRows),
      ...committedHindsight(study),
    ],
  };
}

// What was measured on the same number of tokens of the same model may be compared.
function comparisons() {
  const list = data.studies.map(fromStudy);
  for (const object of data.measured) addMeasured(list, object);
  return list;
}

function addMeasured(list, object) {
  const rows = Array.isArray(object.policies);
  if (!rows && (typeof object.policy !== 'string' || !known(object.loss))) return;
  if (inModelFigures.has(object)) return;
  const key =
      `${object.language_hash || object.model_hash} ${object.sequences} ${object.positions}`;
  const layers = rows ? object.layers : (object.usage && object.usage.big || []).length;
  const candidates = list.filter((entry) => entry.key === key);
  // Studies of several domains look alike from here: then the numbers stand for themselves.
  let entry = candidates.find((other) => !other.study && other.source === object.file) ||
      (candidates.length === 1 ? candidates[0] : null);
  if (!entry) {
    entry = {
      key,
      layers,
      tokens: object.sequences * object.positions,
      source: object.file,
      points: [],
      hindsight: []
    };
    list.push(entry);
  }
  const points = rows ? object.policies.filter((row) => !onDrawnTargets(row.policy))
                            .map((row) => fromRow(row, layers)) :
                        [fromLine(object)];
  for (const point of points) {
    const same = (other) =>
        `${other.name} `.startsWith(`${point.name} `) && Math.abs(other.loss - point.loss) < 1e-3;
    if (!entry.points.some(same)) entry.points.push(point);
  }
  if (object.hindsight && entry.hindsight.length === 0) entry.hindsight.push(object.hindsight);
}

/* ---------------------------------------------------------------- hindsight */

function hindsightRows(curves) {
  return curves.oracle
      .map(([oracle], big) => {
        const row = {big, oracle};
        for (const key of ['gain', 'control', 'corrected', 'label_free', 'label_free_gain'])
          [row[key], row[`${key}_error`]] = curves[key][big];
        return row;
      })
      .filter((row) => row.oracle !== null);
}

// A committed study with a control holds the losses from which the same table follows.
function committedHindsight(study) {
  const loss = (name) => (study.policies.find((policy) => policy.name === name) || {}).loss;
  const oracle = study.policies.find((policy) => /^oracle\b/.test(policy.name));
  const big = loss('big'), control = loss('control'), drawn = loss('big-drawn');
  if (!oracle || !known(big) || !known(control) || !known(drawn)) return [];
  const gain = big - oracle.loss, lucky = drawn - control;
  return [[{
    big: oracle.share.big * study.L,
    oracle: oracle.loss,
    gain,
    control: lucky,
    corrected: gain - lucky
  }]];
}

// To four places, so that a column can be read down.
function nats(value, error) {
  if (!known(value)) return '\u2013';
  return value.toFixed(4) + (known(error) ? ` \u00b1 ${error.toFixed(4)}` : '');
}

function hindsightTable(entry, number) {
  if (entry.hindsight.length === 0) return null;
  const keys = ['gain', 'control', 'corrected', 'label_free_gain'];
  const rows = () => [
      ['big layers', 'oracle loss', ...keys.flatMap((key) => [key, `${key}_error`])],
      ...entry.hindsight.flat().map(
          (row) =>
              [row.big, row.oracle, ...keys.flatMap((key) => [row[key], row[`${key}_error`]])])];
  const fig = figure(`hindsight-${number}`, 'Hindsight', {
    rows,
    wide: true,
    caption:
        'Gain: nats below all-big with the best route of every token. Control: the same for targets ' +
        'drawn from the all-big model, where there is nothing to know. Corrected: gain less ' +
        'control. Label-free: what the route of least expected loss gains, chosen without seeing ' +
        'the target.'
  });
  fig.body.append(table(
      ['big layers', 'oracle loss', 'gain', 'control', 'corrected', 'label-free gain'],
      entry.hindsight.flat().map(
          (row) =>
              [short(row.big, 3), short(row.oracle, 5),
               ...keys.map((key) => nats(row[key], row[`${key}_error`]))]),
      [0, 1, 2, 3, 4, 5]));
  const best = entry.hindsight.flat().reduce((a, b) => (b.corrected > a.corrected ? b : a));
  fig.describe(`The largest corrected gain is ${short(best.corrected)} nats, at ${
      short(best.big, 3)} big layers.`);
  return fig;
}

/* ---------------------------------------------------------------- figures */

// Families whose members differ by their budget alone are joined by a line.
const joined = ['oracle', 'fixed', 'random-sequence', 'random-token', 'label-free'];

function budgetPoint(point) {
  const errors = known(point.error);
  return {
    x: point.big,
    y: point.perplexity,
    note: point.name,
    low: errors ? Math.exp(point.loss - point.error) : NaN,
    high: errors ? Math.exp(point.loss + point.error) : NaN,
  };
}

function budgetSeries(entry) {
  const all = families.map((family, colour) => {
    const members = entry.points.filter((p) => familyOf(p.name) === family && known(p.big));
    const points = members.map(budgetPoint).sort((a, b) => a.x - b.x);
    return {label: family.label, colour, dots: true, apart: !joined.includes(family.key), points};
  });
  return all.filter((series) => series.points.length > 0);
}

function budgetFigure(entry, number) {
  const fig = chartFigure(`budget-${number}`, 'Perplexity against budget', {
    series: budgetSeries(entry),
    wide: true,
    errors: {over: 'sequences'},
    xWhole: entry.layers || undefined,
    xLabel: 'big layers per token',
    yLabel: 'perplexity',
    caption: `${entry.source}: ${
        plural(
            entry.tokens,
            'held-out token')}. The oracle sees the token that it is to predict; nobody else does.`
  });
  return fig;
}

function policyTable(entry, number) {
  const of = (point) =>
      (entry.study ? entry.study.policies.find(
                         (policy) => policy.name === point.name && policy.loss === point.loss) :
                     null) ||
      {};
  const rows = () => [
      [
        'policy', 'loss', 'loss_error', 'perplexity', 'bits_per_byte', 'big_layers',
        'flops_per_token'
      ],
      ...entry.points.map(
          (p) =>
              [p.name, p.loss, p.error, p.perplexity, of(p).bits_per_byte, p.big,
               of(p).flops_per_token])];
  const fig = figure(`policies-${number}`, 'Policies', {rows, wide: true, caption: entry.source});
  fig.body.append(h(
      'details', {open: entry.points.length <= 12},
      h('summary', {}, plural(entry.points.length, 'policy').replace('policys', 'policies')),
      table(
          ['policy', 'loss, nats', 'perplexity', 'bits per byte', 'big layers', 'MFLOP per token'],
          entry.points.map(
              (p) =>
                  [p.name, plusMinus(p.loss, p.error), short(p.perplexity),
                   known(of(p).bits_per_byte) ? short(of(p).bits_per_byte) : '\u2013',
                   short(p.big, 3),
                   known(of(p).flops_per_token) ? short(of(p).flops_per_token / 1e6) : '\u2013']),
          [1, 2, 3, 4, 5])));
  const best = entry.points.filter((p) => known(p.loss))
                   .reduce((a, b) => (b.loss < a.loss ? b : a), {name: 'none', perplexity: NaN});
  fig.describe(`Lowest perplexity: ${best.name}, ${short(best.perplexity)}.`);
  return fig;
}

// Budgets that change along the sequence, beside the same number at every position.
function scheduleFigure(entry, number) {
  const schedules = entry.points.filter((p) => familyOf(p.name).key === 'schedule');
  if (schedules.length === 0) return null;
  const constant = entry.points.filter((p) => familyOf(p.name).key === 'oracle' &&
      schedules.some((s) => Math.abs(s.big - p.big) < 0.5));
  const all = [...schedules, ...constant];
  const rows = () => [
    ['policy', 'big_layers', 'loss', 'loss_error', 'perplexity'],
    ...all.map((p) => [p.name, p.big, p.loss, p.error, p.perplexity]),
  ];
  const fig = figure(`schedules-${number}`, 'Budget schedules', {
    rows,
    wide: true,
    caption: 'Big layers from the first position to the last, in a straight line; and the oracle ' +
        'with as many at every position.',
  });
  const cells = (p) => [p.name, short(p.big, 4), nats(p.loss, p.error), short(p.perplexity)];
  const headings = ['schedule', 'big layers, mean', 'loss, nats', 'perplexity'];
  fig.body.append(table(headings, all.map(cells), [1, 2, 3]));
  fig.describe(all.map((p) => `${p.name}: perplexity ${short(p.perplexity)}.`).join(' '));
  return fig;
}

function budgetFigures() {
  const makers = [budgetFigure, scheduleFigure, policyTable, hindsightTable];
  return comparisons().flatMap((entry, i) => makers.map((make) => make(entry, i + 1)));
}
