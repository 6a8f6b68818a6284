#include <stdio.h>

#include "pass.h"

void duo_pass_detect(duo_pass *pass, duo_anomaly *anomaly)
{
    pass->anomaly = anomaly;
}

void duo_pass_check(const duo_pass *pass, size_t layer, const char *what, const float *x, size_t n)
{
    duo_anomaly *anomaly = pass->anomaly;
    if (!anomaly || anomaly->found || duo_all_finite(x, n)) return;
    anomaly->found = true;
    if (layer == DUO_NO_LAYER)
        snprintf(anomaly->place, sizeof anomaly->place, "%s", what);
    else
        snprintf(anomaly->place, sizeof anomaly->place, "layer %zu, %s", layer, what);
}
