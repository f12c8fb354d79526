// The kernels of one instruction set: compiled once for each, with VARIANT as the name of its table.

#include "rounding.h"

namespace {

// Numbers are those of ggml_type.
const feedback::Type TYPES[] = {
    {10, round_rows<RoundQ2_K>}, {11, round_rows<RoundQ3_K>}, {12, round_rows<RoundQ4_K>},
    {13, round_rows<RoundQ5_K>}, {14, round_rows<RoundQ6_K>}, {23, round_rows<RoundIQ4_XS>},
};

}  // namespace

feedback::Kernels feedback::VARIANT() {
    return {TYPES,         sizeof TYPES / sizeof *TYPES, shrink_rows, factor_block,
            factor_strips, subtract_block,               work_size};
}
