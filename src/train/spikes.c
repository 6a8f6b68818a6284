#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "duo/train.h"

duo_status duo_losses_create(duo_losses *losses, size_t window, const double *loss, size_t n)
{
    *losses = (duo_losses){.window = window};
    if (window == 0) return DUO_OK;
    losses->loss = calloc(window, sizeof *losses->loss);
    if (!losses->loss) return duo_fail(DUO_ENOMEM, "no memory for the losses of %zu steps", window);
    losses->n = n < window ? n : window;
    if (losses->n > 0) memcpy(losses->loss, loss + (n - losses->n), losses->n * sizeof *loss);
    return DUO_OK;
}

void duo_losses_free(duo_losses *losses)
{
    free(losses->loss);
    *losses = (duo_losses){0};
}

/* Summed anew each time: a running sum would drift, and a resumed run would have other bits. */
static double deviations(const duo_losses *losses, double loss)
{
    const double n = (double)losses->n;
    double mean = 0, squares = 0;
    for (size_t i = 0; i < losses->n; i++) mean += losses->loss[i] / n;
    for (size_t i = 0; i < losses->n; i++)
        squares += (losses->loss[i] - mean) * (losses->loss[i] - mean);
    return squares > 0 ? (loss - mean) / sqrt(squares / n) : 0;
}

double duo_losses_add(duo_losses *losses, double loss)
{
    if (losses->window == 0) return 0;
    const bool full = losses->n == losses->window;
    const double z = full ? deviations(losses, loss) : 0;
    if (full) memmove(losses->loss, losses->loss + 1, --losses->n * sizeof *losses->loss);
    losses->loss[losses->n++] = loss;
    return z;
}
