#include <math.h>

#include "duo/train.h"

double duo_teacher_unit(const float *values, size_t choices, duo_module_set modules)
{
    double squares = 0, n = 0;
    for (size_t i = 0; i < choices; i++) {
        const float *v = values + i * DUO_MODULES;
        for (duo_module k = 1; k < DUO_MODULES; k++)
            for (duo_module m = 0; m < k; m++) {
                if (!duo_module_in(modules, m) || !duo_module_in(modules, k)) continue;
                if (!isfinite(v[m]) || !isfinite(v[k])) continue;
                const double gap = (double)v[k] - (double)v[m];
                squares += gap * gap;
                n++;
            }
    }
    return squares > 0 ? sqrt(squares / n) : 1;
}

void duo_teacher_labels(uint8_t *labels, const float *values, size_t choices,
                        duo_module_set modules)
{
    for (size_t i = 0; i < choices; i++) {
        const float *v = values + i * DUO_MODULES;
        size_t finite = 0;
        duo_module best = DUO_MODULES;
        for (duo_module m = 0; m < DUO_MODULES; m++) {
            if (!duo_module_in(modules, m) || !isfinite(v[m])) continue;
            finite++;
            if (best == DUO_MODULES || v[m] < v[best]) best = m;
        }
        labels[i] = finite < 2 ? DUO_NO_LABEL : (uint8_t)best;
    }
}
