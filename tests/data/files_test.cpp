// SHA-256 against the vectors of FIPS 180-4 and its appendix examples; files that appear whole or
// not at all.

#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <string>

#include "data/atomic_file.h"
#include "data/error.h"
#include "data/sha256.h"
#include "tests/data/temporary_directory.h"

namespace hone::data {
namespace {

TEST(Sha256, MatchesPublishedVectors) {
  EXPECT_EQ(sha256_hex(""), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  EXPECT_EQ(sha256_hex("abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  EXPECT_EQ(sha256_hex("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq"),
            "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
  EXPECT_EQ(sha256_hex(std::string(1000000, 'a')),
            "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
}

TEST(Sha256, StreamsInPieces) {
  Sha256 digest;
  const std::string text(100000, 'x');
  for (std::size_t at = 0; at < text.size(); at += 977) digest.update(text.substr(at, 977));
  Sha256 moved(std::move(digest));
  EXPECT_EQ(moved.hex(), sha256_hex(text));
  EXPECT_THROW(moved.hex(), Error);
}

TEST(Sha256, OfFiles) {
  TemporaryDirectory directory;
  spit(directory / "file", "abc");
  EXPECT_EQ(sha256_file(directory / "file"), sha256_hex("abc"));
  EXPECT_THROW(sha256_file(directory / "none"), InputError);
  EXPECT_THROW(sha256_file(directory.path()), InputError);
}

TEST(AtomicFile, ReplacesAndReadsBack) {
  TemporaryDirectory directory;
  const auto path = directory / "file";
  write_file_atomically(path, "one");
  write_file_atomically(path, std::string("t\0wo", 4));
  EXPECT_EQ(read_file(path), std::string("t\0wo", 4));
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(directory.path()), {}), 1);
}

TEST(AtomicFile, NamesWhatIsMissing) {
  TemporaryDirectory directory;
  EXPECT_NE(message_of<InputError>([&] { read_file(directory / "none"); }).find("none"),
            std::string::npos);
  EXPECT_THROW(read_file(directory.path()), InputError);
  EXPECT_THROW(write_file_atomically(directory / "no/such/file", "x"), IoError);
}

TEST(AtomicFile, FullDiskLeavesTheOldFile) {
  TemporaryDirectory directory;
  const auto path = directory / "file";
  write_file_atomically(path, "old");
  const pid_t child = fork();
  ASSERT_GE(child, 0);
  if (child == 0) {  // the limit would hold for the rest of the process
    std::signal(SIGXFSZ, SIG_IGN);
    const rlimit limit{4096, 4096};
    setrlimit(RLIMIT_FSIZE, &limit);
    try {
      write_file_atomically(path, std::string(1 << 20, 'x'));
    } catch (const IoError& error) {
      _exit(std::string(error.what()).find("File too large") == std::string::npos ? 2 : 0);
    }
    _exit(1);
  }
  int status = 0;
  waitpid(child, &status, 0);
  EXPECT_EQ(status, 0);
  EXPECT_EQ(read_file(path), "old");
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(directory.path()), {}), 1);
}

}  // namespace
}  // namespace hone::data
