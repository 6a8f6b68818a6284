#define STREAM_TABLE bench_stream_avx512
#include "stream_loops.h"
