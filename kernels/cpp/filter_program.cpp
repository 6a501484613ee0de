#include "filter_program.h"

#include <algorithm>
#include <limits>
#include <string>

#include "entry.h"

namespace meshfold {
namespace {

// Sets that a program may hold at a time: 256 KiB of the stack. Operands of AT_LEAST are counted one by one.
constexpr int64_t kMostSets = 4096;
// What a term that reads a column costs, in rows of the signature.
constexpr int64_t kColumnCost = 64, kManyCost = 512;
// Rows after which reading the signature costs as much as reading the column, which then decides at once.
constexpr int64_t kMostRows = 64;
// Posting lists of a term up to which each is walked; else they become one set of bits, where its items are fewer than
// one in so many.
constexpr int64_t kFewLists = 8, kItemsPerPosting = 8;
// Words of such sets that a program may take: 64 MiB.
constexpr int64_t kMostBitWords = int64_t{1} << 23;
// Integers between the smallest and the largest wanted value, for each of them, up to which a bit each is kept.
constexpr uint64_t kSpanPerValue = 512;

enum Op : int64_t { kNoop, kConstant, kMatch, kPlane, kRange, kExists, kAnd, kOr, kNot, kAtLeast };

// A part of the program: a term, or an operator over its operands, which are linked to one another.
struct Node {
  Code code;            // constant, rows, columns, conjoin, disjoin, negate or close_count
  int32_t term;
  int32_t value;
  int64_t at_least;
  int64_t cost;
  int64_t bound;        // postings of lists that hold every item of it; -1 where no lists do
  int32_t first, last;  // operands
  int32_t next;         // of the same operator
};

class Compiler {
 public:
  Compiler(const FilterIndex& index, const Programs& programs, int64_t query)
      : index_(index),
        programs_(programs),
        steps_(programs.steps + query * programs.length * 4),
        values_(programs.values + query * programs.value_count),
        value_rows_(programs.value_rows + query * programs.value_count * programs.hashes) {}

  Compiled run() {
    code_.group_ends.push_back(0);
    for (int64_t i = 0; i < programs_.length; ++i) {
      if (steps_[i * 4] != kNoop) read(i);
    }
    if (stack_.size() != 1) throw Invalid("a program must leave one set, not " + std::to_string(stack_.size()));
    drive(stack_[0]);
    emit();
    measure();
    return std::move(code_);
  }

 private:
  [[noreturn]] static void refuse(int64_t step, const std::string& why) {
    throw Invalid("step " + std::to_string(step) + " of a program " + why);
  }

  void read(int64_t i) {
    const int64_t op = steps_[i * 4], a = steps_[i * 4 + 1], b = steps_[i * 4 + 2], c = steps_[i * 4 + 3];
    switch (op) {
      case kConstant:
        return push({Code::constant, -1, a != 0, 0, 0, -1, -1, -1, -1});
      case kMatch:
      case kPlane:
      case kRange:
      case kExists: {
        const int32_t made = term(i, op, a, b, c);
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
        if (a < 0) refuse(i, "counts " + std::to_string(a) + " sets");
        need(i, a);
        if (a == 0) return push({Code::constant, -1, b <= 0, 0, 0, -1, -1, -1, -1});
        return over(Code::close_count, a, b);
      default:
        throw Invalid("steps hold opcode " + std::to_string(op) + "; known ones: kernels/filter_program.py");
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
      refuse(i, "needs " + std::to_string(sets) + " sets, there are " + std::to_string(stack_.size()));
    }
  }

  // An AND or OR of the two on top; a chain of one operator becomes one node, however it is nested.
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

  int32_t term(int64_t i, int64_t op, int64_t field, int64_t first, int64_t count) {
    if (field < 0 || field >= index_.fields || field >= index_.rows) {
      refuse(i, "names field " + std::to_string(field) + " of " + std::to_string(index_.fields));
    }
    if (op == kRange) count = 2;
    if (op == kExists) first = count = 0;
    if (count < 0 || first < 0 || first > programs_.value_count || count > programs_.value_count - first) {
      refuse(i, "reads " + std::to_string(count) + " values from " + std::to_string(first) + " on, there are " +
                    std::to_string(programs_.value_count));
    }
    Term made{};
    made.column = index_.columns[field];
    made.offsets = index_.offsets[field];
    made.field = field;
    made.width = index_.widths[field];
    made.range = op == kRange;
    if (made.width != 4 && made.width != 8) refuse(i, "reads a column of " + std::to_string(made.width) + " bytes");
    if (made.range && made.offsets != nullptr) refuse(i, "is a range over a field of many values");
    made.first_group = static_cast<int32_t>(code_.group_ends.size()) - 1;
    made.first_value = static_cast<int32_t>(code_.values.size());
    if (op == kRange) {
      bounds(made, values_[first], values_[first + 1]);
    } else if (op != kExists) {
      code_.values.insert(code_.values.end(), values_ + first, values_ + first + count);
      const auto begin = code_.values.begin() + made.first_value;
      std::sort(begin, code_.values.end());
      code_.values.erase(std::unique(begin, code_.values.end()), code_.values.end());
      if (made.width == 4) {
        // What a column of 32 bits cannot hold is wanted in vain.
        const auto beyond = [](int64_t value) { return value != static_cast<int32_t>(value); };
        code_.values.erase(std::remove_if(begin, code_.values.end(), beyond), code_.values.end());
      }
      groups(i, first, count);
    }
    made.first_bits = made.first_span = -1;
    if (op == kMatch) lists(made);
    made.values = static_cast<int32_t>(code_.values.size()) - made.first_value;
    made.first_word = made.range ? -1 : words(code_.values.data() + made.first_value, made.values);
    // Whoever has the field may have the value: also where that is said in fewer rows.
    const auto rows = static_cast<int64_t>(code_.rows.size()) - code_.group_ends[made.first_group];
    const bool presence = op == kRange || op == kExists || (op == kMatch && rows > kMostRows);
    if (presence || made.listed()) {
      code_.rows.resize(code_.group_ends[made.first_group]);
      code_.group_ends.resize(made.first_group + 1);
    }
    if (presence && !made.listed()) {
      code_.rows.push_back(static_cast<int32_t>(field));
      code_.group_ends.push_back(static_cast<int32_t>(code_.rows.size()));
    }
    made.groups = static_cast<int32_t>(code_.group_ends.size()) - 1 - made.first_group;
    made.checked = (op == kMatch || op == kRange) && !made.listed();
    code_.exact &= !made.checked;
    code_.terms.push_back(made);
    return static_cast<int32_t>(code_.terms.size()) - 1;
  }

  // Gives a term the posting lists of its values, where its field has lists and they are not too long.
  void lists(Term& term) {
    if (index_.list_fields == nullptr) return;
    const int64_t begin = index_.list_fields[term.field], end = index_.list_fields[term.field + 1];
    if (begin < 0 || begin > end || end > index_.lists) throw Invalid("fields of posting lists must ascend to L");
    if (begin == end) return;
    std::vector<Span> found;
    int64_t postings = 0;
    for (auto value = code_.values.begin() + term.first_value; value != code_.values.end(); ++value) {
      const int64_t* at = std::lower_bound(index_.list_values + begin, index_.list_values + end, *value);
      if (at == index_.list_values + end || *at != *value) continue;
      found.push_back(span(at - index_.list_values));
      postings += found.back().last - found.back().first;
    }
    const bool few = static_cast<int64_t>(found.size()) <= kFewLists;
    const int64_t words = (index_.items + kBundle - 1) / kBundle * kWords;
    const int64_t room = kMostBitWords - static_cast<int64_t>(code_.bits.size());
    if (!few && (postings > index_.items / kItemsPerPosting || words > room)) return;
    term.postings = postings;
    if (few) {
      term.first_span = static_cast<int32_t>(code_.spans.size());
      term.spans = static_cast<int32_t>(found.size());
      code_.spans.insert(code_.spans.end(), found.begin(), found.end());
      return;
    }
    term.first_bits = static_cast<int64_t>(code_.bits.size());
    code_.bits.resize(code_.bits.size() + words);
    uint64_t* bits = code_.bits.data() + term.first_bits;
    for (const Span& of_value : found) {
      for (const int32_t* at = of_value.first; at != of_value.last; ++at) {
        // What no snapshot holds must not be written beyond the bits.
        if (*at < 0 || *at >= index_.items) throw Invalid("posting lists must hold positions of items");
        bits[*at >> 6] |= uint64_t{1} << (*at & 63);
      }
    }
  }

  Span span(int64_t list) const {
    const int64_t first = index_.list_offsets[list], last = index_.list_offsets[list + 1];
    if (first < 0 || first > last || last > index_.posting_count) {
      throw Invalid("offsets of posting lists must ascend to P");
    }
    if (first < last && (index_.postings[first] < 0 || index_.postings[last - 1] >= index_.items)) {
      throw Invalid("posting lists must hold positions of items, ascending");
    }
    return {index_.postings + first, index_.postings + last};
  }

  // The listed terms that lead to whatever passes: of the operands of an AND the one of fewest postings.
  void drive(int32_t top) {
    code_.bound = nodes_[top].bound;
    if (code_.bound < 0) return;
    code_.conjunct = code_.told = true;
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
        if (nodes_[operand].bound >= 0 && (shortest < 0 || nodes_[operand].bound < nodes_[shortest].bound)) shortest = operand;
      }
      for (int32_t operand = node.first; operand >= 0; operand = nodes_[operand].next) {
        if (operand != shortest) code_.told &= at == top && narrow(operand);
      }
      left.push_back(shortest);
    }
  }

  // Adds what rows tell of an operand that every item meets that passes; returns whether that is all.
  bool narrow(int32_t operand) {
    const bool negated = nodes_[operand].code == Code::negate;
    const Node& node = negated ? nodes_[nodes_[operand].first] : nodes_[operand];
    if (node.code != Code::rows && (negated || node.code != Code::columns)) return false;
    code_.narrowing.push_back({node.term, negated});
    return node.code == Code::rows;
  }

  // Bounds that a column of 32 bits can be compared with; crossed where there is nothing between them.
  void bounds(const Term& term, int64_t low, int64_t high) {
    if (term.width == 4) {
      constexpr int64_t least = std::numeric_limits<int32_t>::min(), most = std::numeric_limits<int32_t>::max();
      if (low > most || high < least) low = 1, high = 0;
      low = std::max(low, least), high = std::min(high, most);
    }
    code_.values.push_back(low);
    code_.values.push_back(high);
  }

  int32_t words(const int64_t* values, int32_t count) {
    if (count <= kFewValues) return -1;
    const uint64_t low = static_cast<uint64_t>(values[0]);
    const uint64_t span = static_cast<uint64_t>(values[count - 1]) - low;
    if (span >= kSpanPerValue * static_cast<uint64_t>(count)) return -1;
    const size_t begin = code_.words.size();
    code_.words.resize(begin + span / 64 + 1);
    for (int32_t v = 0; v < count; ++v) {
      const uint64_t at = static_cast<uint64_t>(values[v]) - low;
      code_.words[begin + at / 64] |= uint64_t{1} << at % 64;
    }
    return static_cast<int32_t>(begin);
  }

  // The distinct rows of each value; values whose rows are those of the value before are told already.
  void groups(int64_t i, int64_t first, int64_t count) {
    for (int64_t v = first; v < first + count; ++v) {
      const int64_t* rows = value_rows_ + v * programs_.hashes;
      const auto begin = static_cast<int64_t>(code_.rows.size());
      for (int64_t s = 0; s < programs_.hashes; ++s) {
        if (rows[s] < 0 || rows[s] >= index_.rows) {
          refuse(i, "reads row " + std::to_string(rows[s]) + " of " + std::to_string(index_.rows));
        }
        const auto row = static_cast<int32_t>(rows[s]);
        if (std::find(code_.rows.begin() + begin, code_.rows.end(), row) == code_.rows.end()) {
          code_.rows.push_back(row);
        }
      }
      const auto size = static_cast<int64_t>(code_.rows.size()) - begin;
      if (size == 0) refuse(i, "has values without rows");
      if (v > first && code_.group_ends.back() - code_.group_ends[code_.group_ends.size() - 2] == size &&
          std::equal(code_.rows.begin() + begin, code_.rows.end(), code_.rows.begin() + begin - size)) {
        code_.rows.resize(begin);
      } else {
        code_.group_ends.push_back(static_cast<int32_t>(code_.rows.size()));
      }
    }
  }

  // A frame of the walk over the nodes: operands from `next` on are still to be emitted.
  struct Frame {
    int32_t node;
    size_t begin, next, end;  // in ordered_
  };

  // Postfix again. The cheap operands of AND and OR come first, since they spare the others their work.
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

  // The most that is held at a time: sets, and, in the second run, the items that matter outside each operator.
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
      throw Invalid("a program holds " + std::to_string(code_.depth) + " sets at a time, at most " +
                    std::to_string(kMostSets) + " will do; nest filters less deeply");
    }
  }

  struct Jump {
    int32_t step, node;
  };

  const FilterIndex& index_;
  const Programs& programs_;
  const int64_t* steps_;
  const int64_t* values_;
  const int64_t* value_rows_;
  Compiled code_;
  std::vector<Node> nodes_;
  std::vector<int32_t> stack_;  // nodes
  std::vector<Frame> frames_;
  std::vector<int32_t> ordered_;
  std::vector<Jump> jumps_;
};

}  // namespace

Compiled compile(const FilterIndex& index, const Programs& programs, int64_t query) {
  return Compiler(index, programs, query).run();
}

}  // namespace meshfold
