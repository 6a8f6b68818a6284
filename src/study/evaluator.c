#include "evaluator.h"

#include "sequences.h"

duo_status study_evaluator_open(study_evaluator *evaluator, const duo_model *model,
                                const duo_sequences *sequences, size_t rows)
{
    const size_t R = sequences->R, T = sequences->T;
    *evaluator = (study_evaluator){.model = model, .T = T};
    duo_status status =
        study_sequences_check(sequences, &model->params.config, DUO_EINVAL, "evaluation");
    if (status != DUO_OK) return status;
    if (rows == 0) rows = 1;
    if (rows > R) rows = R;
    if (rows > UINT32_MAX / T) rows = UINT32_MAX / T; /* row indices of a pass have 32 bits */
    evaluator->rows = rows;
    duo_arena measure = DUO_ARENA_MEASURE;
    duo_pass_take(&model->params, (duo_pass_shape){.B = rows, .T = T}, &measure);
    return duo_arena_create(&evaluator->arena, measure.used, "evaluation");
}

void study_evaluator_close(study_evaluator *evaluator)
{
    duo_arena_free(&evaluator->arena);
}

void study_evaluator_run(study_evaluator *e, const int32_t *tokens, size_t n,
                         const duo_routing *routing, float *loss)
{
    if (n != e->laid_out) { /* at the start, and for a shorter rest */
        duo_arena_rewind(&e->arena, 0);
        e->pass = duo_pass_take(&e->model->params, (duo_pass_shape){.B = n, .T = e->T}, &e->arena);
        e->laid_out = n;
    }
    duo_pass_forward(e->pass, e->model, tokens, routing);
    duo_pass_loss(e->pass, e->model, loss, NULL, 0);
}
