// The kernels of one instruction set: compiled once for each, with VARIANT as the name of its table.

#include <cstddef>

#include "multiply.h"
#include "vector.h"

namespace {

// Numbers are those of ggml_type.
constexpr int Q8_0_BLOCKS = 8, Q8_1_BLOCKS = 9, Q8_K_BLOCKS = 15;

const products::Kernel KERNELS[] = {
    {2, Q8_0_BLOCKS, quantize_q8_0, multiply<Q4_0>, nullptr},
    {3, Q8_1_BLOCKS, quantize_q8_1, multiply<Q4_1>, nullptr},
    {6, Q8_0_BLOCKS, quantize_q8_0, multiply<Q5_0>, nullptr},
    {7, Q8_1_BLOCKS, quantize_q8_1, multiply<Q5_1>, nullptr},
    {8, Q8_0_BLOCKS, quantize_q8_0, multiply<Q8_0>, VECTOR(Q8_0)},
    {10, Q8_K_BLOCKS, quantize_super, multiply<Q2_K>, nullptr},
    {11, Q8_K_BLOCKS, quantize_super, multiply<Q3_K>, nullptr},
    {12, Q8_K_BLOCKS, quantize_super, multiply<Q4_K>, VECTOR(Q4_K)},
    {13, Q8_K_BLOCKS, quantize_super, multiply<Q5_K>, VECTOR(Q5_K)},
    {14, Q8_K_BLOCKS, quantize_super, multiply<Q6_K>, VECTOR(Q6_K)},
    {20, Q8_0_BLOCKS, quantize_q8_0, multiply<IQ4_NL>, nullptr},
    {23, Q8_K_BLOCKS, quantize_super, multiply<IQ4_XS>, nullptr},
};

}  // namespace

products::Kernels products::VARIANT() { return {KERNELS, sizeof KERNELS / sizeof *KERNELS}; }
