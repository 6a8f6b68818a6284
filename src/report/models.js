// Models beside each other, by what a token costs: held-out loss, and multiple choice.

const isDense = (line) => line.trained === 'dense';
const modelName = (line) => line.run || String(line.model_hash).slice(0, 8);

// Lines of `duo eval --json`, with and without --choices, that tell of which model they are: Duo at
// big probabilities from 0 to 1, and models that were trained with one FFN alone.
function modelLine(line) {
  if (typeof line.policy !== 'string' || !line.model_hash || !known(line.flops_per_token)) return false;
  return isDense(line) ? line.policy === 'big' : /^(small|big|random:[0-9.]+)$/.test(line.policy);
}

const ofChoices = (line) => known(line.accuracy);
const measuredOn = (line) => (ofChoices(line) ?
    [line.choices, line.items] :
    [line.tokens_hash, line.domain, line.sequences, line.positions]).join(' ');

// What was measured on the same text, where there is more than one model of it.
function modelGroups() {
  const groups = new Map();
  for (const line of data.measured.filter(modelLine)) {
    const key = measuredOn(line), lines = groups.get(key) || [];
    const again = (other) =>
        other.model_hash === line.model_hash && other.policy === line.policy;
    if (!lines.some(again)) lines.push(line);
    groups.set(key, lines);
  }
  return [...groups.values()].filter(
      (lines) => lines.some((line) => line.model_hash !== lines[0].model_hash));
}

const inModelFigures = new Set(modelGroups().flat());

const lineShare = (line) => (known(line.big_share) ? line.big_share : bigShare(line));

// One series per Duo model, and behind them one for all dense ones. value(line) gives {y, error}.
function modelSeries(lines, x, value) {
  const names = new Set(lines.filter((line) => !isDense(line)).map(modelName));
  const labels = [...names, ...(lines.some(isDense) ? [null] : [])];
  return labels
      .map((label) => {
        const own = lines.filter((line) => (isDense(line) ? null : modelName(line)) === label);
        const points = own.map((line) => {
          const {y, error} = value(line);
          return {
            x: x(line),
            y,
            low: known(error) ? y - error : NaN,
            high: known(error) ? y + error : NaN,
            note: label === null ? modelName(line) : line.policy
          };
        });
        const trained = label === null ? '' : ` (${own[0].trained || 'unknown stages'})`;
        return {
          label: label === null ? 'dense models' : label + trained,
          dots: true,
          points: points.sort((a, b) => a.x - b.x)
        };
      })
      .map((series, colour) => ({...series, colour, dash: series.label === 'dense models' ? 1 : 0}));
}

const megaflops = (line) => line.flops_per_token / 1e6;
const lossOf = (line) => ({y: line.loss, error: line.loss_error});
const accuracyOf = (line) => ({y: 100 * line.accuracy, error: 100 * line.accuracy_error});

const theText = (line) => `${plural(line.sequences * line.positions, 'held-out token')}${
    line.domain ? `, domain ${line.domain}` : ''}`;

function flopsFigure(lines, number) {
  return chartFigure(`models-${number}`, 'Loss at equal FLOPs', {
    series: modelSeries(lines, megaflops, lossOf),
    errors: {over: 'sequences'},
    xLabel: 'MFLOP per token',
    yLabel: 'held-out loss, nats',
    caption: `${theText(lines[0])}. Duo from all small over random routes to all big; each dense ` +
        'model has one FFN, as wide as a token of Duo meets on average.',
  });
}

function choicesFigure(lines, number) {
  const [first] = lines, xs = lines.map(megaflops);
  const chance = {
    label: 'chance',
    colour: 4,
    dash: 2,
    points: [Math.min(...xs), Math.max(...xs)].map((x) => ({x, y: 100 * first.chance}))
  };
  const file = String(first.choices).split('/').pop();
  return chartFigure(`choices-${number}`, `Multiple choice: ${file}`, {
    series: [...modelSeries(lines, megaflops, accuracyOf), ...(known(first.chance) ? [chance] : [])],
    errors: {over: 'items'},
    xLabel: 'MFLOP per token',
    yLabel: 'accuracy, %',
    caption: `${plural(first.items, 'item')}: the continuation of the highest log-likelihood.`,
  });
}

// Models of big and small FFNs that were trained in different ways.
function trainedFigure(lines, number) {
  const series = modelSeries(lines.filter((line) => !isDense(line)), lineShare, lossOf);
  if (series.length < 2) return null;
  return chartFigure(`trained-${number}`, 'Loss by share of big', {
    series,
    errors: {over: 'sequences'},
    xWhole: 1,
    xLabel: 'share of (token, layer) pairs that take big',
    yLabel: 'held-out loss, nats',
    caption: `${theText(lines[0])}. In brackets the stages that a model went through: duo trains ` +
        'big and small together, from scratch; dense, small trains big alone and then small.',
  });
}

function modelFigures() {
  const groups = modelGroups();
  const losses = groups.filter((lines) => !ofChoices(lines[0]));
  const choices = groups.filter((lines) => ofChoices(lines[0]));
  return [
    ...losses.flatMap((lines, i) => [flopsFigure(lines, i + 1), trainedFigure(lines, i + 1)]),
    ...choices.map((lines, i) => choicesFigure(lines, i + 1)),
  ];
}
