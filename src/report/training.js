// What happened over the steps: one colour a run, broken lines for held-out text.

const runLabel = (run) =>
    (data.runs.filter((other) => other.name === run.name).length > 1 ? run.folder : run.name);
const logOf = (run) => run.log || [];
// With thresholds, where a stage has set them.
const heldOutLoss = (line) => (known(line.calibrated_loss) ? line.calibrated_loss : line.val_loss);
const bigShare = (line, key = 'usage') => (line[key] && line[key].big ? mean(line[key].big) : NaN);

// Where each stage begins, in steps of the run.
function stageMarks() {
  const marks = [];
  data.runs.forEach((run, r) => {
    let step = 0;
    for (const stage of run.stages || []) {
      marks.push({
        x: step,
        label: data.runs.length > 1 ? `${runLabel(run)}: ${stage.name}` : stage.name,
        row: data.runs.length > 1 ? r : 0
      });
      step += stage.steps;
    }
  });
  const last =
      Math.max(0, ...data.runs.flatMap((run) => logOf(run).slice(-1).map((line) => line.step)));
  return marks.filter((mark) => mark.x <= last);
}

const points = (run, value) =>
    logOf(run).map((line) => ({x: line.step, y: value(line), note: line.stage}));
const perRun = (value, more = {}) => data.runs.map(
    (run, r) => ({label: runLabel(run), colour: r, points: points(run, value), ...more}));

function thinned() {
  const strides = data.runs.map((run) => run.log_stride || 1);
  return Math.max(1, ...strides) > 1 ?
      ` Of the logged steps every ${Math.max(...strides)}th is shown.` :
      '';
}

function lossFigure(marks) {
  const training = perRun((line) => line.loss);
  const heldOut = data.runs.map((run, r) => ({
                                  label: `${runLabel(run)}, held out`,
                                  colour: r,
                                  dash: 1,
                                  dots: true,
                                  points: points(run, heldOutLoss)
                                }));
  if (data.runs.length === 1) {
    training[0].label = 'training';
    heldOut[0].label = 'held out';
    heldOut[0].colour = 1;
  }
  return chartFigure('loss', 'Loss', {
    series: [...training, ...heldOut],
    marks,
    wide: true,
    xLabel: 'step',
    yLabel: 'nats per token',
    caption:
        'Loss of the batches and of held-out text, under the routing of each stage; upright lines ' +
        `are where stages begin.${thinned()}`
  });
}

function trainingFigures() {
  const marks = stageMarks(), plain = {marks: marks.map((mark) => ({x: mark.x})), xLabel: 'step'};
  return [
    lossFigure(marks),
    chartFigure(
        'learning-rate', 'Learning rate',
        {...plain, series: perRun((line) => line.lr), yLabel: 'learning rate'}),
    chartFigure('gradient-norm', 'Gradient norm', {
      ...plain,
      series: perRun((line) => line.grad_norm),
      yLabel: 'norm before clipping'
    }),
    chartFigure(
        'speed', 'Speed',
        {...plain, series: perRun((line) => line.tokens_per_s), yLabel: 'tokens per second'}),
    chartFigure('mfu', 'Model FLOPs utilisation', {
      ...plain,
      series: perRun((line) => line.mfu),
      yLabel: 'share of the peak',
      caption:
          'Model FLOPs per second, as a share of the measured multiply-add rate of the machine.'
    }),
  ];
}

/* ---------------------------------------------------------------- routers */

function targetSeries() {
  return data.runs.flatMap((run, r) => {
    let first = 0;
    return (run.stages || []).flatMap((stage) => {
      const begin = first;
      first += stage.steps;
      const wanted = stage.target && stage.target[2],
            lines = logOf(run).filter((line) => line.step > begin && line.step <= first);
      if (!known(wanted) || lines.length === 0) return [];
      return [{
        label: data.runs.length > 1 ? `${runLabel(run)}: wanted` : 'wanted',
        colour: r,
        dash: 2,
        points: [{x: lines[0].step, y: wanted}, {x: lines[lines.length - 1].step, y: wanted}]
      }];
    });
  });
}

function routerFigures() {
  const routed = (line) => known(line.temperature);
  if (!data.runs.some((run) => logOf(run).some(routed))) return [];
  const of = (value) => perRun((line) => (routed(line) ? value(line) : NaN));
  const usage = of((line) => bigShare(line)),
        heldOut = data.runs.map(
            (run, r) => ({
              colour: r,
              dash: 1,
              dots: true,
              label: data.runs.length > 1 ? `${runLabel(run)}, held out` : 'held out',
              points: points(run, (line) => (routed(line) ? bigShare(line, 'val_usage') : NaN))
            }));
  if (data.runs.length === 1) {
    usage[0].label = 'in training, with noise';
    heldOut[0].colour = 1;
  }
  const soft = data.runs.map((run, r) => ({
                               colour: data.runs.length > 1 ? r : 2,
                               dash: 3,
                               label: data.runs.length > 1 ? `${runLabel(run)}, soft` : 'soft, in training',
                               points: points(run, (line) => (routed(line) ? bigShare(line, 'soft_usage') : NaN))
                             }));
  const multiplied = (line) => (routed(line) && line.multiplier ? line.multiplier.big : NaN);
  const plain = {xLabel: 'step'};
  return [
    chartFigure(
        'temperature', 'Router temperature',
        {...plain, series: of((line) => line.temperature), yLabel: 'temperature'}),
    chartFigure(
        'penalty', 'Budget penalty',
        {...plain, series: of((line) => line.budget_loss), yLabel: 'budget loss, unweighted'}),
    chartFigure(
        'multiplier', 'Multiplier of the budget',
        {...plain, series: of(multiplied), yLabel: 'of the share of big'}),
    chartFigure(
        'expected-flops', 'Expected FLOPs',
        {...plain, series: of((line) => line.expected_flops), yLabel: 'per token, by soft shares'}),
    chartFigure('router-usage', 'Share of big', {
      ...plain,
      series: [...usage, ...soft, ...heldOut, ...targetSeries()],
      yLabel: 'share of (token, layer) pairs',
      caption: 'What the routers choose, in training and on held-out text without noise, before ' +
          'they are calibrated; soft: the mixture that is trained.'
    }),
    ...data.runs.map(
        (run, r) => usageMap(run, r, logOf(run).filter((line) => routed(line) && line.usage))),
  ];
}

// Layer by step: how the routers of single layers move.
function usageMap(run, r, all) {
  if (all.length < 2) return null;
  const stride = Math.ceil(all.length / 120), lines = all.filter((_, i) => i % stride === 0);
  const values = lines[0].usage.big.map((_, l) => lines.map((line) => line.usage.big[l]));
  return mapFigure(
      `usage-${r + 1}`,
      data.runs.length > 1 ? `Share of big by layer: ${runLabel(run)}` : 'Share of big by layer', {
        wide: true,
        maps: () => [{
          title: 'big',
          values,
          columnName: (c) => `step ${lines[c].step}`,
          low: lines[0].step,
          high: lines[lines.length - 1].step
        }],
        xLabel: 'step',
        caption: 'The share of tokens that take the big FFN in each layer while the routers learn.'
      });
}
