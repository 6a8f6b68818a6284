#define STREAM_TABLE bench_stream_avx2
#include "stream_loops.h"
