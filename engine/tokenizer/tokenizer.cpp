#include "engine/tokenizer/tokenizer.h"

#include <algorithm>
#include <utility>

#include "data/atomic_file.h"
#include "data/error.h"
#include "engine/tokenizer/tokenizer_impl.h"
#include "engine/tokenizer/utf8.h"

namespace hone::engine {

namespace {

// A field that may be absent.
JsonField optional_field(const JsonField& root, const char* key) {
  static const nlohmann::json kNull;
  return root.has(key) ? root.at(key) : JsonField(kNull, root.where(), key);
}

}  // namespace

Tokenizer::Impl::Impl(std::string text, const JsonField& root)
    : json(std::move(text)),
      normalizer(Normalizer::parse(optional_field(root, "normalizer"))),
      pre_tokenizer(PreTokenizer::parse(optional_field(root, "pre_tokenizer"))),
      model(TokenModel::parse(root.at("model"))),
      added(parse_added_tokens(optional_field(root, "added_tokens"))),
      raw_finder(added, /*normalized=*/false, normalizer),
      normalized_finder(added, /*normalized=*/true, normalizer),
      post_processor(PostProcessor::parse(optional_field(root, "post_processor"))),
      decoder(Decoder::parse(optional_field(root, "decoder"))) {
  index_added_tokens(optional_field(root, "added_tokens"));
  for (const auto* ids : {&post_processor.prefix, &post_processor.suffix}) {
    for (const int32_t id : *ids) {
      if (id >= vocab_size) {
        optional_field(root, "post_processor")
            .fail("ids below " + std::to_string(vocab_size), std::to_string(id));
      }
    }
  }
}

void Tokenizer::Impl::index_added_tokens(const JsonField& field) {
  const Vocabulary& vocabulary = model.vocabulary();
  vocab_size = vocabulary.size();
  // `tokenizers` numbers new tokens itself, from the size of the vocabulary on in the order of the
  // file: with any other id in the file, models would have been trained with ids that it never
  // gave.
  int64_t next = vocabulary.count();
  for (size_t i = 0; i < added.size(); ++i) {
    AddedToken& token = added[i];
    const JsonField place = field.at(i);
    if (token.content.empty()) place.at("content").fail("a text");
    const int32_t known = vocabulary.id_of(token.content);
    if (known >= 0 && known != token.id) {
      place.at("id").fail("the token's id in the vocabulary, " + std::to_string(known));
    }
    if (known < 0 && (token.id != next++ || vocabulary.has(token.id))) {
      place.at("id").fail("the first id behind the vocabulary and the tokens before, " +
                          std::to_string(next - 1));
    }
    // What the decoder has to undo, the normalizer has done.
    if (token.normalized) token.decoded = normalizer.apply(token.content);
    if (!added_by_content.try_emplace(token.content, token.id).second) {
      place.at("content").fail("added tokens to be unique");
    }
    added_by_id.emplace(token.id, token);
    vocab_size = std::max(vocab_size, int64_t{token.id} + 1);
  }
}

std::string_view Tokenizer::Impl::token_of(int64_t id) const {
  if (id < 0 || id >= vocab_size) return {};
  const auto found = added_by_id.find(static_cast<int32_t>(id));
  return found != added_by_id.end() ? std::string_view(found->second.decoded)
                                    : model.vocabulary().token_of(id);
}

void Tokenizer::Impl::encode_part(std::string_view text, bool first, Scratch& scratch,
                                  std::vector<int32_t>& ids) const {
  const std::string normalized = normalizer.apply(text);
  normalized_finder.split(normalized, scratch.normalized_parts);
  for (const AddedTokenFinder::Part& part : scratch.normalized_parts) {
    if (part.id >= 0) {
      ids.push_back(part.id);
      continue;
    }
    std::string words(part.text);
    pre_tokenizer.split(words, first && part.text.data() == normalized.data(), scratch.pieces);
    const std::string_view view = words;
    for (const Piece& piece : scratch.pieces) {
      model.encode(view.substr(piece.begin, piece.end - piece.begin), pre_tokenizer.bytes(),
                   scratch.model, ids);
    }
  }
}

std::unique_ptr<Tokenizer::Impl::Scratch> Tokenizer::Impl::take_scratch() const {
  const std::lock_guard lock(mutex);
  if (idle.empty()) return std::make_unique<Scratch>();
  std::unique_ptr<Scratch> scratch = std::move(idle.back());
  idle.pop_back();
  return scratch;
}

void Tokenizer::Impl::give_back(std::unique_ptr<Scratch> scratch) const {
  const std::lock_guard lock(mutex);
  idle.push_back(std::move(scratch));
}

std::vector<int32_t> Tokenizer::encode(std::string_view text, bool add_special) const {
  std::unique_ptr<Impl::Scratch> scratch = impl_->take_scratch();
  std::string repaired;
  if (utf8_valid_prefix(text) != text.size()) {
    repaired = utf8_repaired(text);
    text = repaired;
  }
  std::vector<int32_t> ids;
  if (add_special) ids = impl_->post_processor.prefix;
  impl_->raw_finder.split(text, scratch->parts);
  for (const AddedTokenFinder::Part& part : scratch->parts) {
    if (part.id >= 0) {
      ids.push_back(part.id);
    } else {
      impl_->encode_part(part.text, part.text.data() == text.data(), *scratch, ids);
    }
  }
  if (add_special) {
    const std::vector<int32_t>& suffix = impl_->post_processor.suffix;
    ids.insert(ids.end(), suffix.begin(), suffix.end());
  }
  impl_->give_back(std::move(scratch));
  return ids;
}

const std::vector<int32_t>& Tokenizer::prefix() const { return impl_->post_processor.prefix; }
const std::vector<int32_t>& Tokenizer::suffix() const { return impl_->post_processor.suffix; }

std::string Tokenizer::decode(const std::vector<int32_t>& ids, bool skip_special) const {
  std::vector<std::string> tokens;
  tokens.reserve(ids.size());
  for (const int32_t id : ids) {
    const std::string_view token = impl_->token_of(id);
    if (!token.empty() && !(skip_special && impl_->is_special(id))) tokens.emplace_back(token);
  }
  return impl_->decoder.apply(std::move(tokens));
}

Tokenizer::Tokenizer(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Tokenizer::Tokenizer(Tokenizer&&) noexcept = default;
Tokenizer& Tokenizer::operator=(Tokenizer&&) noexcept = default;
Tokenizer::~Tokenizer() = default;

Tokenizer Tokenizer::parse(const std::string& json, const std::string& where) {
  const nlohmann::json document = parse_json(json, where);
  return Tokenizer(std::make_unique<Impl>(json, JsonField(document, where)));
}

Tokenizer Tokenizer::load(const std::filesystem::path& path) {
  std::error_code ignored;
  const std::filesystem::path file =
      std::filesystem::is_directory(path, ignored) ? path / "tokenizer.json" : path;
  return parse(data::read_file(file), file.string());
}

int64_t Tokenizer::vocab_size() const { return impl_->vocab_size; }

int64_t Tokenizer::id_of(std::string_view token) const {
  const auto found = impl_->added_by_content.find(std::string(token));
  return found != impl_->added_by_content.end() ? found->second
                                                : impl_->model.vocabulary().id_of(token);
}

std::string Tokenizer::token_of(int32_t id) const { return std::string(impl_->token_of(id)); }

const std::string& Tokenizer::json() const { return impl_->json; }

}  // namespace hone::engine
