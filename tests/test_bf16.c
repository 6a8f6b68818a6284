#include "bf16.h"
#include "matmul_fixture.h"
#include "tile.h"

/*
 * Products of operands in bf16, on every instruction set, and on the tiles for bf16 pairs with
 * their instructions emulated: the loops of the tests run over the instruction sets and both.
 */

enum { EMULATED_PAIRS = ALL_ISAS, EMULATED_AMX, ALL_TILES };

#ifdef __x86_64__
extern const duo_tile duo_tile_bf16_emulated, duo_tile_amx_emulated;
#endif

static bool start_tile(int tile, int threads)
{
    precision = DUO_BF16;
    if (tile < ALL_ISAS) return start_isa(tile, threads);
#ifdef __x86_64__
    if (!start_isa(DUO_ISA_AVX512, threads)) return false;
    const duo_tile *emulated =
        tile == EMULATED_AMX ? &duo_tile_amx_emulated : &duo_tile_bf16_emulated;
    ok(duo_matmul_start(&duo_tile_avx512, emulated, threads));
    return true;
#else
    return false;
#endif
}

static float from_bits(uint32_t bits)
{
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

START_TEST(rounding_is_to_nearest_even)
{
    static const uint32_t cases[][2] = {
        {0x3f800000, 0x3f80}, {0x3f807fff, 0x3f80}, {0x3f808000, 0x3f80}, {0x3f808001, 0x3f81},
        {0x3f818000, 0x3f82}, {0xbf818000, 0xbf82}, {0x00000000, 0x0000}, {0x80000000, 0x8000},
        {0x00008001, 0x0001}, {0x7f7fffff, 0x7f80}, {0x7f7f7fff, 0x7f7f}, {0x7f800000, 0x7f80},
        {0xff800000, 0xff80}, {0x7f800001, 0x7fc0}, {0xffffffff, 0xffff}, {0x7fc12345, 0x7fc1}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const float x = from_bits(cases[i][0]);
        ck_assert_uint_eq(duo_bf16_bits(x), cases[i][1] << 16);
    }
}
END_TEST

START_TEST(products_match_plain_loops)
{
    if (!start_tile(_i, THREADS)) return;
    static const size_t sizes[] = {1, 3, 8, 17, 49, 129};
    enum { SIZES = sizeof sizes / sizeof sizes[0] };
    for (size_t a = 0; a < SIZES; a++)
        for (size_t b = 0; b < SIZES; b++) {
            const size_t c = sizes[(3 * a + 5 * b) % SIZES];
            check_products((shape){sizes[a], sizes[b], c});
            check_products((shape){c, sizes[a], sizes[b]});
        }
    /* Several blocks of the sum, even and odd, in each product. */
    static const shape long_sums[] = {{5, 3, 4301},   {5, 4300, 3},   {2201, 3, 5},
                                      {530, 17, 130}, {70, 49, 2049}, {70, 2049, 49}};
    for (size_t i = 0; i < sizeof long_sums / sizeof long_sums[0]; i++)
        check_products(long_sums[i]);
    duo_kernels_stop();
}
END_TEST

START_TEST(threads_and_packed_forms_do_not_change_bits)
{
    static const shape shapes[] = {{1, 49, 100}, {130, 70, 1031}, {70, 2100, 70},
                                   {9, 5, 2101}, {300, 257, 301}, {1100, 33, 65}};
    for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++) {
        problem p = problem_create(shapes[i], true);
        const shape s = p.s;
        float *first[2] = {NULL, NULL};
        results one = {0};
        for (int threads = 1; threads <= MOST_THREADS && start_tile(_i, threads); threads++) {
            check_packed(&p, first, threads == 1);
            results many = run(&p);
            if (threads == 1) {
                one = many;
                continue;
            }
            assert_same_bits(one.y, many.y, p.total * s.O);
            assert_same_bits(one.dx, many.dx, p.total * s.I);
            assert_same_bits(one.dw, many.dw, s.O * s.I);
            results_free(&many);
        }
        results_free(&one);
        free(first[0]), free(first[1]);
        problem_free(&p);
    }
    duo_kernels_stop();
}
END_TEST

/* Without a bias and without what stood there, a tile may store its registers as they are. */
START_TEST(rows_together_have_the_bits_of_rows_alone)
{
    if (!start_tile(_i, THREADS)) return;
    enum { M = 64, I = 70, O = 100 };
    float *x = numbers(M * I, 1), *w = numbers(O * I, 2), *together = numbers(M * O, 3);
    float *alone = numbers(M * O, 4);
    w[3] = -0.0f;
    linear_forward(together, x, w, NULL, M, O, I, NULL, NULL, false);
    for (size_t m = 0; m < M; m++)
        linear_forward(alone + m * O, x + m * I, w, NULL, 1, O, I, NULL, NULL, false);
    ck_assert_mem_eq(together, alone, M * O * sizeof *alone);
    free(x);
    free(w);
    free(together);
    free(alone);
    duo_kernels_stop();
}
END_TEST

/* Rounding reaches the operands alone: the bias and what is added to keep all their bits. */
START_TEST(only_operands_are_rounded)
{
    if (!start_tile(_i, 1)) return;
    const float x = 1.00390625f, w = 1.0f, bias = 0x1.000002p0f; /* x is half way: to even, 1 */
    float y = 0x1p-20f, db = 0.0f, dw = 0.0f;
    linear_forward(&y, &x, &w, &bias, 1, 1, 1, NULL, NULL, true);
    ck_assert(y == 0x1p-20f + (1.0f + bias));
    linear_backward_weight(&dw, &db, &x, &w, 1, 1, 1, NULL, NULL);
    ck_assert(dw == 1.0f);
    ck_assert(db == x);
    duo_kernels_stop();
}
END_TEST

START_TEST(infinities_and_nan_reach_the_output)
{
    if (!start_tile(_i, 1)) return;
    const float x[3] = {INFINITY, 1.0f, NAN}, w[3] = {1.0f, 2.0f, 0.0f};
    float y[3];
    for (size_t n = 1; n <= 3; n++) /* the sums of the first n */
        linear_forward(y + n - 1, x, w, NULL, 1, 1, n, NULL, NULL, false);
    ck_assert(isinf(y[0]) && isinf(y[1]) && isnan(y[2]));
    duo_kernels_stop();
}
END_TEST

START_TEST(rows_between_are_not_read)
{
    if (!start_tile(_i, 1)) return;
    check_all_rows_between();
    duo_kernels_stop();
}
END_TEST

/* Where the processor has the instructions, the emulated tiles give their bits. */
START_TEST(emulation_is_exact)
{
    static const int pairs[][2] = {{DUO_ISA_AVX512BF16, EMULATED_PAIRS},
                                   {DUO_ISA_AMX, EMULATED_AMX}};
    if (!start_tile(pairs[_i][0], 1)) return;
    problem p = problem_create((shape){67, 100, 333}, true);
    results native = run(&p);
    ck_assert(start_tile(pairs[_i][1], 1));
    results emulated = run(&p);
    assert_same_bits(native.y, emulated.y, p.total * p.s.O);
    assert_same_bits(native.dx, emulated.dx, p.total * p.s.I);
    assert_same_bits(native.dw, emulated.dw, p.s.O * p.s.I);
    results_free(&native);
    results_free(&emulated);
    problem_free(&p);
    duo_kernels_stop();
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {
        products_match_plain_loops,
        threads_and_packed_forms_do_not_change_bits,
        rows_together_have_the_bits_of_rows_alone,
        only_operands_are_rounded,
        infinities_and_nan_reach_the_output,
        rows_between_are_not_read,
    };
    const TTest *const once[] = {rounding_is_to_nearest_even};
    Suite *suite = suite_create("bf16");
    add_case(suite, 50, tests, sizeof tests / sizeof *tests, ALL_TILES);
    tcase_add_loop_test(add_case(suite, 4, once, 1, 1), emulation_is_exact, 0, 2);
    return run_cases(suite);
}
