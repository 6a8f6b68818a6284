#ifndef DUO_PRECISION_H
#define DUO_PRECISION_H

/** What the operands of a matrix product are rounded to; its sums are always fp32. */
typedef enum duo_precision { DUO_FP32, DUO_BF16 } duo_precision;

/** "fp32", "bf16". */
static inline const char *duo_precision_name(duo_precision precision)
{
    return precision == DUO_BF16 ? "bf16" : "fp32";
}

#endif
