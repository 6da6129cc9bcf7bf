#include "engine/agreement.h"

#include <algorithm>
#include <cstring>
#include <vector>

#include "engine/errors.h"

namespace mtadam {
namespace {

// What one rank says of its call.
struct Statement {
  char call[32];
  std::uint64_t optimizer;
  std::uint64_t values;
};

// What one rank says of itself. All versions of this package begin with it, so its size never changes.
struct Greeting {
  char version[64];
};

template <std::size_t kSize>
void set_text(char (&field)[kSize], const std::string& text) {
  std::memcpy(field, text.data(), std::min(text.size(), kSize - 1));
}

template <std::size_t kSize>
std::string text_of(const char (&field)[kSize]) {
  return std::string(field, strnlen(field, kSize));
}

std::string told(const std::vector<Statement>& statements, std::size_t rank) {
  return "rank " + std::to_string(rank) + " `" + text_of(statements[rank].call) + "`";
}

// What every rank puts in its place.
template <class T>
std::vector<T> gathered(Collective& collective, const T& own) {
  std::vector<T> all(collective.size());
  all[collective.rank()] = own;
  collective.gather_on_host(all.data(), equal_parts(all.size(), sizeof(T)));
  return all;
}

}  // namespace

void agree_on_version(Collective& collective, const std::string& version) {
  Greeting own{};
  set_text(own.version, version);
  const std::vector<Greeting> greetings = gathered(collective, own);
  const std::string first = text_of(greetings[0].version);
  for (std::size_t rank = 1; rank < greetings.size(); ++rank) {
    const std::string other = text_of(greetings[rank].version);
    if (other == first) continue;
    throw Error("DISTRIBUTED", "All ranks must have the same version of mtadam; got " + first + " in rank 0 and " +
                                   other + " in rank " + std::to_string(rank) + ".");
  }
}

void agree(Collective& collective, const Agreement& own) {
  collective.name_call(own.call);
  Statement statement{{}, own.optimizer, own.values};
  set_text(statement.call, own.call);
  const std::vector<Statement> statements = gathered(collective, statement);
  for (std::size_t rank = 1; rank < statements.size(); ++rank) {
    const Statement &first = statements[0], &other = statements[rank];
    const std::string both = told(statements, 0) + " and " + told(statements, rank);
    if (std::memcmp(first.call, other.call, sizeof first.call) != 0) {
      throw Error("DISTRIBUTED", "All ranks must make the same calls in the same order; got " + both + ".");
    }
    if (first.optimizer != other.optimizer) {
      throw Error("DISTRIBUTED", "All ranks must have optimizers with the same parameters, terms and options; got " +
                                     both + " of different ones.");
    }
    if (first.values != other.values) {
      throw Error("DISTRIBUTED",
                  "All ranks must give a call the same options, weights and present gradients at the same iteration; "
                  "got different ones in " +
                      both + ".");
    }
  }
}

void compare_parameters(Collective& collective, std::uint64_t hash) {
  const std::vector<std::uint64_t> hashes = gathered(collective, hash);
  for (std::size_t rank = 1; rank < hashes.size(); ++rank) {
    if (hashes[rank] == hashes[0]) continue;
    throw Error("DISTRIBUTED",
                "All ranks must have the same parameters when they begin to train; got different ones in "
                "rank 0 and rank " +
                    std::to_string(rank) + ".");
  }
}

}  // namespace mtadam
