#include "filter/compile.h"

#include <algorithm>
#include <string>

#include "filter/terms.h"
#include "native/entry.h"

namespace meshfold {
namespace {

// Most sets on the stack: 256 KiB. Operands of AT_LEAST are counted one by one.
constexpr int64_t kMostSets = 4096;
// Cost of a term that reads a column, of one value or many, in signature rows.
constexpr int64_t kColumnCost = 64, kManyCost = 512;

// A term, or an operator over its operands, which form a linked list.
struct Node {
  Code code;            // constant, rows, columns, conjoin, disjoin, negate or close_count
  int32_t term;
  int32_t value;
  int64_t at_least;
  int64_t cost;
  int64_t bound;        // postings of lists that contain all its items; -1 without such lists
  int32_t first, last;  // operands
  int32_t next;         // of the same operator
};

class Compiler {
 public:
  Compiler(const FilterIndex& index, const FilterBatch& filters, int64_t query)
      : index_(index),
        filters_(filters),
        steps_(filters.steps + query * filters.length * 4),
        terms_(index, filters, query, code_) {}

  CompiledFilter run() {
    code_.group_ends.push_back(0);
    for (int64_t i = 0; i < filters_.length; ++i) {
      if (steps_[i * 4] != kNoop) read(i);
    }
    if (stack_.size() != 1) throw Invalid("a filter must leave one set, not " + std::to_string(stack_.size()));
    drive(stack_[0]);
    emit();
    measure();
    return std::move(code_);
  }

 private:
  void read(int64_t i) {
    const int64_t op = steps_[i * 4], a = steps_[i * 4 + 1], b = steps_[i * 4 + 2], c = steps_[i * 4 + 3];
    switch (op) {
      case kConstant:
        return push({Code::constant, -1, a != 0, 0, 0, -1, -1, -1, -1});
      case kMatch:
      case kPlane:
      case kRange:
      case kExists: {
        const int32_t made = terms_.add(i, op, a, b, c);
        const Term& term = code_.terms[made];
        if (term.listed()) return push({Code::listed, made, 0, 0, 0, term.postings, -1, -1, -1});
        const int64_t cost = !term.checked ? term.groups : term.offsets == nullptr ? kColumnCost : kManyCost;
        return push({term.checked ? Code::columns : Code::rows, made, 0, 0, cost, -1, -1, -1, -1});
      }
      case kAnd:
      case kOr:
        need(i, 2);
        return join(op == kAnd ? Code::conjoin : Code::disjoin);
      case kNot:
        need(i, 1);
        return over(Code::negate, 1, 0);
      case kAtLeast:
        if (a < 0) refuse_step(i, "counts " + std::to_string(a) + " sets");
        need(i, a);
        if (a == 0) return push({Code::constant, -1, b <= 0, 0, 0, -1, -1, -1, -1});
        return over(Code::close_count, a, b);
      default:
        throw Invalid("steps hold opcode " + std::to_string(op) + "; known ones: kernels/filter/steps.py");
    }
  }

  void push(const Node& node) {
    stack_.push_back(static_cast<int32_t>(nodes_.size()));
    nodes_.push_back(node);
  }

  int32_t pop() {
    const int32_t top = stack_.back();
    stack_.pop_back();
    return top;
  }

  void need(int64_t i, int64_t sets) const {
    if (static_cast<int64_t>(stack_.size()) < sets) {
      refuse_step(i, "needs " + std::to_string(sets) + " sets, there are " + std::to_string(stack_.size()));
    }
  }

  // AND or OR of the two on top; nested chains of one operator become one node.
  void join(Code code) {
    const int32_t right = pop(), left = pop();
    Node node{code, -1, 0, 0, nodes_[left].cost + nodes_[right].cost, -1, -1, -1, -1};
    const int64_t of_left = nodes_[left].bound, of_right = nodes_[right].bound;
    if (code == Code::disjoin) {
      if (of_left >= 0 && of_right >= 0) node.bound = of_left + of_right;
    } else {
      node.bound = of_left < 0 || of_right < 0 ? std::max(of_left, of_right) : std::min(of_left, of_right);
    }
    for (const int32_t side : {left, right}) {
      const bool chain = nodes_[side].code == code;
      const int32_t first = chain ? nodes_[side].first : side, last = chain ? nodes_[side].last : side;
      if (node.last < 0) {
        node.first = first;
      } else {
        nodes_[node.last].next = first;
      }
      node.last = last;
    }
    push(node);
  }

  // NOT or AT_LEAST of the `operands` on top.
  void over(Code code, int64_t operands, int64_t at_least) {
    Node node{code, -1, 0, at_least, 0, -1, -1, -1, -1};
    for (int64_t left = operands; left > 0; left >>= 1) ++node.value;
    for (int64_t operand = 0; operand < operands; ++operand) {
      const int32_t top = pop();
      nodes_[top].next = node.first;
      node.first = top;
      node.cost += nodes_[top].cost;
    }
    push(node);
  }

  // Selects the drivers: all operands of an OR, and the operand of an AND with the fewest postings.
  void drive(int32_t top) {
    code_.bound = nodes_[top].bound;
    if (code_.bound < 0) return;
    code_.conjunct = code_.decided = true;
    std::vector<int32_t> left{top};
    while (!left.empty()) {
      const int32_t at = left.back();
      const Node& node = nodes_[at];
      left.pop_back();
      if (node.code == Code::listed) {
        code_.drivers.push_back(node.term);
        continue;
      }
      if (node.code == Code::disjoin) {
        code_.conjunct = false;
        for (int32_t operand = node.first; operand >= 0; operand = nodes_[operand].next) left.push_back(operand);
        continue;
      }
      int32_t shortest = -1;
      for (int32_t operand = node.first; operand >= 0; operand = nodes_[operand].next) {
        const int64_t bound = nodes_[operand].bound;
        if (bound >= 0 && (shortest < 0 || bound < nodes_[shortest].bound)) shortest = operand;
      }
      for (int32_t operand = node.first; operand >= 0; operand = nodes_[operand].next) {
        if (operand != shortest) code_.decided &= at == top && narrow(operand);
      }
      left.push_back(shortest);
    }
  }

  // Adds the rows of an operand that every item of the filter meets; returns whether they decide it.
  bool narrow(int32_t operand) {
    const bool negated = nodes_[operand].code == Code::negate;
    const Node& node = negated ? nodes_[nodes_[operand].first] : nodes_[operand];
    if (node.code != Code::rows && (negated || node.code != Code::columns)) return false;
    code_.narrowing.push_back({node.term, negated});
    return node.code == Code::rows;
  }

  // A frame of the walk over the nodes; `next` is the next operand to emit.
  struct Frame {
    int32_t node;
    size_t begin, next, end;  // in ordered_
  };

  // Writes postfix steps. Cheap operands of AND and OR come first, because they may decide alone.
  void emit() {
    enter(stack_[0]);
    while (!frames_.empty()) {
      Frame& frame = frames_.back();
      const Node& node = nodes_[frame.node];
      if (frame.next > frame.begin) after_operand(node, frame);
      if (frame.next == frame.end) {
        leave(node, frame);
      } else {
        before_operand(node, frame);
        enter(ordered_[frame.next++]);
      }
    }
  }

  void enter(int32_t at) {
    const size_t begin = ordered_.size();
    for (int32_t operand = nodes_[at].first; operand >= 0; operand = nodes_[operand].next) {
      ordered_.push_back(operand);
    }
    std::stable_sort(ordered_.begin() + begin, ordered_.end(),
                     [&](int32_t x, int32_t y) { return nodes_[x].cost < nodes_[y].cost; });
    frames_.push_back({at, begin, begin, ordered_.size()});
  }

  void before_operand(const Node& node, const Frame& frame) {
    const bool first = frame.next == frame.begin;
    if (node.code == Code::close_count) {
      if (first) step(Code::open_count, node.value);
    } else if (node.code != Code::negate && !first) {
      jumps_.push_back({static_cast<int32_t>(code_.steps.size()), frame.node});
      step(node.code == Code::conjoin ? Code::before_and : Code::before_or);
    }
  }

  void after_operand(const Node& node, const Frame& frame) {
    if (node.code == Code::close_count) {
      step(Code::add, node.value);
    } else if (node.code != Code::negate && frame.next > frame.begin + 1) {
      step(node.code);
    }
  }

  void leave(const Node& node, const Frame& frame) {
    if (node.code != Code::conjoin && node.code != Code::disjoin) {
      code_.steps.push_back({node.code, node.term, 0, node.value, node.at_least});
    }
    while (!jumps_.empty() && jumps_.back().node == frame.node) {
      code_.steps[jumps_.back().step].to = static_cast<int32_t>(code_.steps.size());
      jumps_.pop_back();
    }
    ordered_.resize(frame.begin);
    frames_.pop_back();
  }

  void step(Code code, int32_t value = 0) { code_.steps.push_back({code, -1, 0, value, 0}); }

  // Computes the depth of the stack: sets, and, in the second run, the items that matter outside each operator.
  void measure() {
    int64_t sets = 0, outer = 0;
    for (const Step& step : code_.steps) {
      switch (step.code) {
        case Code::constant:
        case Code::rows:
        case Code::listed:
        case Code::columns:
          ++sets;
          break;
        case Code::before_and:
        case Code::before_or:
          ++outer;
          break;
        case Code::conjoin:
        case Code::disjoin:
          --sets, --outer;
          break;
        case Code::negate:
          break;
        case Code::open_count:
          sets += step.value;
          break;
        case Code::add:
          --sets;
          break;
        case Code::close_count:
          sets -= step.value - 1;
          break;
      }
      code_.depth = std::max(code_.depth, sets + std::max(sets, outer));
    }
    if (code_.depth > kMostSets) {
      throw Invalid("a filter holds " + std::to_string(code_.depth) + " sets at a time, at most " +
                    std::to_string(kMostSets) + " will do; nest filters less deeply");
    }
  }

  struct Jump {
    int32_t step, node;
  };

  const FilterIndex& index_;
  const FilterBatch& filters_;
  const int64_t* steps_;
  CompiledFilter code_;
  TermBuilder terms_;
  std::vector<Node> nodes_;
  std::vector<int32_t> stack_;  // nodes
  std::vector<Frame> frames_;
  std::vector<int32_t> ordered_;
  std::vector<Jump> jumps_;
};

}  // namespace

CompiledFilter compile(const FilterIndex& index, const FilterBatch& filters, int64_t query) {
  return Compiler(index, filters, query).run();
}

}  // namespace meshfold
