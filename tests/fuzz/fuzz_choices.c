#include "duo/choice.h"
#include "fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const fuzz_file file = fuzz_open(data, size);
    duo_choice_set set = {0};
    if (duo_choices_read(&set, file.path) == DUO_OK) duo_choices_free(&set);
    fuzz_close(&file);
    return 0;
}
