#include "duo/data.h"
#include "fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    enum { T = 4 };
    const fuzz_file file = fuzz_open_sealed(data, size, DUO_KIND_TOKENS);
    duo_tokens *tokens = NULL;
    int32_t window[T + 1];
    if (duo_tokens_open(&tokens, file.path) == DUO_OK)
        for (int domain = -1; domain < (int)duo_tokens_domains(tokens); domain++)
            for (duo_split split = DUO_TRAIN; split <= DUO_HELD_OUT; split++) {
                const size_t n = duo_tokens_windows(tokens, split, domain, T);
                if (n > 0) duo_tokens_window(tokens, split, domain, T, 0, window);
                if (n > 0) duo_tokens_window(tokens, split, domain, T, n - 1, window);
            }
    duo_tokens_close(tokens);
    fuzz_close(&file);
    return 0;
}
