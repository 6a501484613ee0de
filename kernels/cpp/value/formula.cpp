// Value formulas, a block of candidates at a time through all steps; meaning of the steps in kernels/value/formula.py.
#include <omp.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <string>
#include <vector>

#include "native/entry.h"
#include "native/isa.h"
#include "native/meshfold.h"
#include "native/numbers.h"

namespace meshfold {
namespace {

enum Op : int64_t {
  kNoop, kConstant, kOperand, kNegate, kNot, kSqrt, kExp, kLog, kAdd, kSubtract, kMultiply, kDivide, kMinimum, kMaximum,
  kEqual, kNotEqual, kLess, kLessEqual, kGreater, kGreaterEqual, kAnd, kOr, kSelect, kOps
};

constexpr const char* kNames[kOps] = {
    "NOOP", "CONSTANT", "OPERAND", "NEGATE", "NOT", "SQRT", "EXP", "LOG", "ADD", "SUBTRACT", "MULTIPLY", "DIVIDE",
    "MINIMUM", "MAXIMUM", "EQUAL", "NOT_EQUAL", "LESS", "LESS_EQUAL", "GREATER", "GREATER_EQUAL", "AND", "OR", "SELECT"};

int64_t arity(int64_t op) { return op <= kOperand ? 0 : op <= kLog ? 1 : op == kSelect ? 3 : 2; }

// Candidates of a block, whose numbers stay in a core's first cache.
constexpr int64_t kBlock = 256;
// Numbers to compute below which starting other threads takes longer than the work.
constexpr int64_t kParallel = 1 << 18;
constexpr double kLargest = 340282346638528859811704183484516925440.0;

struct Formula {
  const int64_t* steps;    // [length, 2]
  int64_t length;
  const double* constants;
  const double* operands;  // [V, M]
  int64_t count;           // M
};

// The depth of the stack of a formula. Throws Invalid for malformed steps.
int64_t depth_of(const int64_t* steps, int64_t length, int64_t constants, int64_t operands) {
  int64_t held = 0, most = 0;
  for (int64_t i = 0; i < length; ++i) {
    const int64_t op = steps[2 * i], place = steps[2 * i + 1];
    if (op == kNoop) continue;
    if (op < 0 || op >= kOps) {
      throw Invalid("steps hold opcode " + std::to_string(op) + "; known ones: kernels/value/formula.py");
    }
    const int64_t known = op == kConstant ? constants : operands;
    if (op <= kOperand && (place < 0 || place >= known)) {
      throw Invalid(std::string("steps push ") + kNames[op] + " " + std::to_string(place) + " of " +
                    std::to_string(known));
    }
    if (held < arity(op)) {
      throw Invalid(std::string("steps take more numbers for ") + kNames[op] + " than they have pushed");
    }
    held += 1 - arity(op);
    most = std::max(most, held);
  }
  if (held != 1) {
    throw Invalid("steps must leave one number for each query, left " + std::to_string(held));
  }
  return most;
}

MESHFOLD_INLINE double within(double x) { return x < -kLargest ? -kLargest : x > kLargest ? kLargest : x; }

MESHFOLD_INLINE double finite(double x) { return x != x ? 0 : within(x); }

template <int kTerms>
MESHFOLD_INLINE double polynomial(double t, const double (&coefficients)[kTerms]) {
  double total = coefficients[kTerms - 1];
  for (int i = kTerms - 2; i >= 0; --i) total = coefficients[i] + t * total;
  return total;
}

// Of fdlibm, as in kernels/value/formula.py.
constexpr double kLn2High = 6.93147180369123816490e-01, kLn2Low = 1.90821492927058770002e-10;
constexpr double kExps[] = {1.66666666666666019037e-01, -2.77777777770155933842e-03, 6.61375632143793436117e-05,
                            -1.65339022054652515390e-06, 4.13813679705723846039e-08};
constexpr double kLogs[] = {6.666666666666735130e-01, 3.999999999940941908e-01, 2.857142874366239149e-01,
                            2.222219843214978396e-01, 1.818357216161805012e-01, 1.531383769920937332e-01,
                            1.479819860511658591e-01};

MESHFOLD_INLINE double exp_of(double x) {
  const double inside = std::min(std::max(x, -700.0), 100.0);
  const double k = round_even(inside * (1 / (kLn2High + kLn2Low)));
  const double high = inside - k * kLn2High, low = k * kLn2Low;
  const double r = high - low, t = r * r;
  const double c = r - t * polynomial(t, kExps);
  const double grown = 1.0 - ((low - (r * c) / (2.0 - c)) - high);
  const double power = std::bit_cast<double>(static_cast<uint64_t>(static_cast<int64_t>(k) + 1023) << 52);
  return within(x < -700.0 ? 0.0 : grown * power);
}

MESHFOLD_INLINE double log_of(double x) {
  if (!(x > 0)) return 0;
  int exponent;
  const double mantissa = std::frexp(x, &exponent);
  const bool small = mantissa < 0.7071067811865476;
  const double f = (small ? mantissa + mantissa : mantissa) - 1.0;
  const double k = static_cast<double>(exponent - small);
  const double s = f / (2.0 + f), z = s * s;
  const double rest = z * polynomial(z, kLogs), half = f * f * 0.5;
  return k * kLn2High - ((half - (s * (half + rest) + k * kLn2Low)) - f);
}

#define MESHFOLD_EACH(result)                     \
  for (int64_t i = 0; i < n; ++i) {               \
    const double x = a[i];                        \
    a[i] = result;                                \
  }                                               \
  break

#define MESHFOLD_PAIRS(result)                    \
  for (int64_t i = 0; i < n; ++i) {               \
    const double x = a[i], y = a[kBlock + i];     \
    a[i] = result;                                \
  }                                               \
  break

// The values of the n candidates from `first` on. stack: [depth, kBlock].
MESHFOLD_INLINE void block(const Formula& formula, int64_t first, int64_t n, double* stack, float* out) {
  double* top = stack;
  for (const int64_t* step = formula.steps; step < formula.steps + 2 * formula.length; step += 2) {
    const int64_t op = step[0];
    if (op == kNoop) continue;
    double* const a = top -= arity(op) * kBlock;
    top += kBlock;
    switch (op) {
      case kConstant: std::fill_n(a, n, finite(formula.constants[step[1]])); break;
      case kOperand: {
        const double* const from = formula.operands + step[1] * formula.count + first;
        for (int64_t i = 0; i < n; ++i) a[i] = finite(from[i]);
        break;
      }
      case kNegate: MESHFOLD_EACH(-x);
      case kNot: MESHFOLD_EACH(1.0 - x);
      case kSqrt: MESHFOLD_EACH(std::sqrt(x > 0 ? x : 0.0));
      case kExp: MESHFOLD_EACH(exp_of(x));
      case kLog: MESHFOLD_EACH(log_of(x));
      case kAdd: MESHFOLD_PAIRS(within(x + y));
      case kSubtract: MESHFOLD_PAIRS(within(x - y));
      case kMultiply:
      case kAnd: MESHFOLD_PAIRS(within(x * y));
      case kDivide: MESHFOLD_PAIRS(y == 0 ? 0.0 : within(x / y));
      case kMinimum: MESHFOLD_PAIRS(y < x ? y : x);
      case kMaximum:
      case kOr: MESHFOLD_PAIRS(y > x ? y : x);
      case kEqual: MESHFOLD_PAIRS(x == y ? 1.0 : 0.0);
      case kNotEqual: MESHFOLD_PAIRS(x != y ? 1.0 : 0.0);
      case kLess: MESHFOLD_PAIRS(x < y ? 1.0 : 0.0);
      case kLessEqual: MESHFOLD_PAIRS(x <= y ? 1.0 : 0.0);
      case kGreater: MESHFOLD_PAIRS(x > y ? 1.0 : 0.0);
      case kGreaterEqual: MESHFOLD_PAIRS(x >= y ? 1.0 : 0.0);
      default: MESHFOLD_PAIRS(x != 0 ? y : a[2 * kBlock + i]);
    }
  }
  // Adding 0 makes 0 of -0.
  for (int64_t i = 0; i < n; ++i) out[first + i] = static_cast<float>(stack[i]) + 0.0f;
}

#undef MESHFOLD_EACH
#undef MESHFOLD_PAIRS

MESHFOLD_FOR_EACH_LEVEL(void, run, block,
                        (const Formula& formula, int64_t first, int64_t n, double* stack, float* out),
                        (formula, first, n, stack, out))

}  // namespace
}  // namespace meshfold

// steps: [B, L, 2]. constants: [B, C]. operands: [B, V, M] -> values: [B, M].
MESHFOLD_API int32_t meshfold_value_program(const int64_t* steps, const double* constants, const double* operands,
                                            int64_t batch, int64_t length, int64_t constant_count,
                                            int64_t operand_count, int64_t count, float* values, int32_t threads) {
  using namespace meshfold;
  return guarded([&] {
    int64_t depth = 0;
    for (int64_t b = 0; b < batch; ++b) {
      depth = std::max(depth, depth_of(steps + 2 * b * length, length, constant_count, operand_count));
    }
    const int64_t blocks = (count + kBlock - 1) / kBlock;
    const int team = batch * count * length > kParallel ? std::max(1, threads) : 1;
    std::vector<double> stacks(team * depth * kBlock);
#pragma omp parallel for if (team > 1) num_threads(team)
    for (int64_t i = 0; i < batch * blocks; ++i) {
      const int64_t b = i / blocks, first = i % blocks * kBlock;
      const Formula formula{steps + 2 * b * length, length, constants + b * constant_count,
                            operands + b * operand_count * count, count};
      run(formula, first, std::min(kBlock, count - first), stacks.data() + omp_get_thread_num() * depth * kBlock,
          values + b * count);
    }
  });
}
