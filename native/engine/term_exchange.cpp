#include "engine/term_exchange.h"

#include <new>
#include <utility>

#include "engine/errors.h"
#include "engine/float_environment.h"
#include "math/lane_sum.h"

namespace mtadam {

float* TermExchange::stage(std::size_t elements) {
  if (staged_.size() < elements) staged_.resize(elements);
  return staged_.data();
}

void TermExchange::begin(Content content) {
  content_ = std::move(content);
  failure_ = nullptr;
  sharing_.collective->worker()->post([self = shared_from_this()] {
    try {
      self->run();
    } catch (const Error& error) {
      self->failure_ = [error] { throw error; };
    } catch (const std::bad_alloc&) {
      self->failure_ = [] { throw std::bad_alloc(); };
    }
  });
}

void TermExchange::end() {
  sharing_.collective->worker()->wait();
  if (failure_) failure_();
}

void TermExchange::run() {
  Collective& collective = *sharing_.collective;
  agree(collective, content_.agreement);
  if (content_.parameters) compare_parameters(collective, *content_.parameters);
  for (const Piece& piece : content_.pieces) {
    float* const staged = staged_.data() + piece.start;
    sum_.add_up(staged, piece.parts, staged, nullptr);
  }
  if (sharing_.state) exchange_squares();
}

void TermExchange::exchange_squares() {
  squares_.assign(content_.slots.end() / sizeof(double), 0);
  {
    const DefaultFloatEnvironment environment;
    for (const auto& [slot, start, count] : content_.own_chunks) {
      squares_[slot] = chunk_sum_of_squares(staged_.data() + start, count);
    }
  }
  sharing_.collective->gather(squares_.data(), content_.slots, nullptr);
}

}  // namespace mtadam
