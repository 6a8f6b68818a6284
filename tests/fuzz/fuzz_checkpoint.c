#include "duo/checkpoint.h"
#include "fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const fuzz_file file = fuzz_open_sealed(data, size, DUO_KIND_CHECKPOINT);
    duo_checkpoint *checkpoint = NULL;
    duo_model *model = NULL;
    if (duo_checkpoint_open(&checkpoint, file.path) == DUO_OK)
        (void)duo_checkpoint_model(checkpoint, &model);
    duo_model_free(model);
    duo_checkpoint_close(checkpoint);
    fuzz_close(&file);
    return 0;
}
