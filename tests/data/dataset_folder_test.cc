#include "igpt/data/dataset_folder.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include <atomic>
#include <chrono>
#include <cmath>
#include <thread>

#include "igpt/error.h"
#include "temporary_folder.h"

namespace igpt::data {
namespace {

using igpt::testing::read_bytes;
using igpt::testing::TemporaryFolder;
using igpt::testing::write_bytes;
using ::testing::HasSubstr;
using ::testing::ThrowsMessage;

const std::vector<std::string> kNames = {"train_x.npy", "train_y.npy", "test_x.npy", "test_y.npy", "dataset.yaml"};

void write_set(const std::filesystem::path& folder, const std::string& content, size_t count = 5) {
  std::filesystem::create_directories(folder);
  for (size_t i = 0; i < count; ++i) write_bytes(folder / kNames[i], content);
}

// The content of all five files, or "mixed".
std::string set_in(const std::filesystem::path& folder) {
  const std::string first = read_bytes(folder / kNames[0]);
  for (const std::string& name : kNames)
    if (read_bytes(folder / name) != first) return "mixed";
  return first;
}

void publish(const std::filesystem::path& folder, const std::string& content) {
  DatasetWriter writer(folder);
  write_set(writer.incoming(), content);
  writer.publish();
}

const std::set<std::string> kClean = {".lock",      "dataset.yaml", "test_x.npy",
                                      "test_y.npy", "train_x.npy",  "train_y.npy"};

// Writers that have replaced the set once die at forty different moments of the following ones; a reader finds the old
// or the new set after each.
void kill_writers(const std::filesystem::path& folder) {
  for (int k = 1; k <= 40; ++k) {
    const pid_t writer = fork();
    ASSERT_GE(writer, 0);
    if (writer == 0) {
      for (int i = 0;; ++i) publish(folder, std::to_string(k) + "." + std::to_string(i));
    }
    while (!read_bytes(folder / kNames[0]).starts_with(std::to_string(k) + ".")) std::this_thread::yield();
    std::this_thread::sleep_for(std::chrono::microseconds(377 * k));
    kill(writer, SIGKILL);
    waitpid(writer, nullptr, 0);
    const ReadLock lock({folder / "train_x.npy"});
    ASSERT_NE(set_in(folder), "mixed") << "writer " << k;
  }
}

TEST(DatasetFolder, ASetReplacesASet) {
  TemporaryFolder folder;
  for (const char* content : {"old", "new"}) {
    publish(folder / "data", content);
    EXPECT_EQ(set_in(folder / "data"), content);
    EXPECT_EQ(folder.names("data"), kClean);
  }
}

TEST(DatasetFolder, WithoutPublishNothingChanges) {
  TemporaryFolder folder;
  publish(folder / "data", "old");
  {
    DatasetWriter writer(folder / "data");
    write_set(writer.incoming(), "new");
  }
  EXPECT_EQ(set_in(folder / "data"), "old");
  EXPECT_EQ(folder.names("data"), kClean);
}

TEST(DatasetFolder, AnIncompleteSetIsNotPublished) {
  TemporaryFolder folder;
  publish(folder / "data", "old");
  {
    DatasetWriter writer(folder / "data");
    write_set(writer.incoming(), "new", 4);
    EXPECT_THROW(writer.publish(), Error);
  }
  EXPECT_EQ(set_in(folder / "data"), "old");
}

TEST(DatasetFolder, AFolderInTheWayIsFoundBeforeAnythingIsReplaced) {
  TemporaryFolder folder;
  publish(folder / "data", "old");
  std::filesystem::remove(folder / "data/test_x.npy");
  std::filesystem::create_directory(folder / "data/test_x.npy");
  EXPECT_THAT([&] { publish(folder / "data", "new"); }, ThrowsMessage<Error>(HasSubstr("test_x.npy: is a folder")));
  EXPECT_EQ(read_bytes(folder / "data/train_x.npy"), "old");
  EXPECT_FALSE(folder.names("data").contains(".ready"));
}

// Every moment at which a writer can die: some files written; all written; committed and some moved.
TEST(DatasetFolder, WhoeverComesNextFinishesOrForgetsWhatADeadWriterLeft) {
  for (size_t written = 0; written <= 5; ++written) {
    TemporaryFolder folder;
    publish(folder.path(), "old");
    write_set(folder / ".incoming", "new", written);
    ReadLock({folder / "train_x.npy"});
    EXPECT_EQ(set_in(folder.path()), "old");
    DatasetWriter(folder.path());
    EXPECT_EQ(set_in(folder.path()), "old");
    EXPECT_EQ(folder.names(), kClean);
  }
  for (const bool reader : {true, false})
    for (size_t moved = 0; moved <= 5; ++moved) {
      TemporaryFolder folder;
      publish(folder.path(), "old");
      write_set(folder / ".ready", "new");
      for (size_t i = 0; i < moved; ++i)
        std::filesystem::rename(folder / ".ready" / kNames[i], folder.path() / kNames[i]);
      if (reader)
        ReadLock({folder / "train_x.npy", folder / "train_y.npy"});
      else
        DatasetWriter(folder.path());
      EXPECT_EQ(set_in(folder.path()), "new") << moved << " files were moved";
      EXPECT_EQ(folder.names(), kClean);
    }
}

// The files of a set lie elsewhere, perhaps on another file system; one of them does not exist yet.
void link_set(const std::filesystem::path& folder, const std::filesystem::path& store) {
  std::filesystem::create_directories(store);
  write_set(store, "old", 4);
  for (const std::string& name : kNames) {
    std::filesystem::remove(folder / name);
    std::filesystem::create_symlink(store / name, folder / name);
  }
}

void expect_links(const std::filesystem::path& folder) {
  for (const std::string& name : kNames) EXPECT_TRUE(std::filesystem::is_symlink(folder / name)) << name;
}

TEST(DatasetFolder, LinksStayAndTheirTargetsAreReplacedAsASet) {
  const TemporaryFolder folder, same;
  char shared_memory[] = "/dev/shm/igpt_test.XXXXXX";  // most often another file system
  const std::filesystem::path other = mkdtemp(shared_memory) ? shared_memory : "";
  for (const auto& store : {same.path(), other}) {
    if (store.empty()) continue;
    std::filesystem::remove_all(folder / "data");
    publish(folder / "data", "older");
    link_set(folder / "data", store);
    {
      DatasetWriter writer(folder / "data");
      write_set(writer.incoming(), "new");
    }
    EXPECT_EQ(read_bytes(store / "train_x.npy"), "old");
    for (const char* content : {"new", "newer"}) {
      publish(folder / "data", content);
      EXPECT_EQ(set_in(store), content);
      EXPECT_EQ(set_in(folder / "data"), content);
    }
    expect_links(folder / "data");
    EXPECT_EQ(folder.names("data"), kClean);
    size_t files = 0;
    for ([[maybe_unused]] const auto& entry : std::filesystem::directory_iterator(store)) ++files;
    EXPECT_EQ(files, kNames.size());
    std::filesystem::remove_all(store);
  }
}

// However far the writer had come with the targets when it died.
TEST(DatasetFolder, WhoeverComesNextFinishesASetBehindLinks) {
  for (const bool reader : {true, false})
    for (size_t done = 0; done <= 5; ++done) {
      const TemporaryFolder folder, store;
      publish(folder.path(), "older");
      link_set(folder.path(), store.path());
      write_set(folder / ".ready", "new");
      write_set(store.path(), "new", done);
      write_bytes(store / ".test_y.npy.999999999.0.tmp", "a copy that was not finished");
      if (reader)
        ReadLock({folder / "train_x.npy"});
      else
        DatasetWriter(folder.path());
      EXPECT_EQ(set_in(folder.path()), "new") << done;
      expect_links(folder.path());
      EXPECT_EQ(store.names(), std::set<std::string>(kNames.begin(), kNames.end()));
    }
}

TEST(DatasetFolder, ADyingWriterBehindLinksLeavesTheOldOrTheNewSet) {
  const TemporaryFolder folder, store;
  publish(folder.path(), "0");
  link_set(folder.path(), store.path());
  publish(folder.path(), "0");
  ASSERT_NO_FATAL_FAILURE(kill_writers(folder.path()));
  publish(folder.path(), "last");
  expect_links(folder.path());
  EXPECT_EQ(store.names(), std::set<std::string>(kNames.begin(), kNames.end()));
}

// A stranger's folder may hold both.
TEST(DatasetFolder, ASetThatIsReadyDoesNotFollowLinksToOtherFiles) {
  for (const bool exists : {true, false}) {
    const TemporaryFolder folder, home;
    write_set(folder / ".ready", "echo hacked");
    if (exists) write_bytes(home / ".profile", "mine");
    std::filesystem::create_symlink(home / ".profile", folder / "train_x.npy");
    EXPECT_THAT([&] { ReadLock({folder / "test_x.npy"}); }, ThrowsMessage<Error>(HasSubstr("remove")));
    EXPECT_EQ(read_bytes(home / ".profile"), exists ? "mine" : "");
  }
}

TEST(DatasetFolder, AFullFileSystemBehindALinkChangesNothing) {
  const TemporaryFolder folder, store;
  if (::mount("tmpfs", store.path().c_str(), "tmpfs", 0, "size=64k") != 0) GTEST_SKIP() << "may not mount";
  publish(folder.path(), "old");
  write_bytes(store / "test_x.npy", "old");
  std::filesystem::remove(folder / "test_x.npy");
  std::filesystem::create_symlink(store / "test_x.npy", folder / "test_x.npy");
  EXPECT_THAT([&] { publish(folder.path(), std::string(100'000, 'x')); },
              ThrowsMessage<Error>(HasSubstr("test_x.npy: cannot write: No space left on device; free")));
  EXPECT_EQ(set_in(folder.path()), "old");
  EXPECT_EQ(folder.names(), kClean);
  EXPECT_EQ(store.names(), std::set<std::string>{"test_x.npy"});
  ::umount2(store.path().c_str(), MNT_DETACH);
}

TEST(DatasetFolder, AFileThatIsMountedByItselfIsFoundBeforeTheWork) {
  const TemporaryFolder folder;
  publish(folder / "data", "old");
  write_bytes(folder / "outside", "old");
  EXPECT_NO_THROW(expect_replaceable(folder / "data"));
  EXPECT_NO_THROW(expect_replaceable(folder / "none"));
  const auto place = folder / "data/test_y.npy";
  if (::mount((folder / "outside").c_str(), place.c_str(), nullptr, MS_BIND, nullptr) != 0)
    GTEST_SKIP() << "may not mount";
  EXPECT_THAT([&] { expect_replaceable(folder / "data"); },
              ThrowsMessage<Error>(HasSubstr("test_y.npy: is mounted by itself")));
  ::umount2(place.c_str(), MNT_DETACH);
}

TEST(DatasetFolder, LinksThatMeetInOneFileAreRefused) {
  for (const char* target : {"test_x.npy", "../elsewhere.npy"}) {
    const TemporaryFolder folder;
    std::filesystem::create_directory(folder / "data");
    std::filesystem::create_symlink(target, folder / "data/train_x.npy");
    if (target[0] == '.') std::filesystem::create_symlink(target, folder / "data/test_x.npy");
    const std::string names = (folder / "data/train_x.npy").string() + " and " + (folder / "data/test_x.npy").string();
    EXPECT_THAT([&] { expect_replaceable(folder / "data"); },
                ThrowsMessage<Error>(HasSubstr(names + ": are one file, ")));
    EXPECT_THAT([&] { publish(folder / "data", "new"); }, ThrowsMessage<Error>(HasSubstr("are one file")));
    EXPECT_FALSE(std::filesystem::exists(folder / "data/.ready"));
    EXPECT_FALSE(std::filesystem::exists(folder / "data/test_x.npy"));
  }
}

TEST(DatasetFolder, LinksInThePlaceOfFoldersAndLocksAreNamed) {
  const TemporaryFolder folder;
  std::filesystem::create_symlink("nowhere", folder / "data");
  EXPECT_THAT([&] { DatasetWriter(folder / "data"); },
              ThrowsMessage<Error>(HasSubstr("data: is a link to nowhere, where there is nothing")));
  std::filesystem::create_directory(folder / "other");
  std::filesystem::create_symlink("nowhere", folder / "other/.lock");
  EXPECT_THAT([&] { DatasetWriter(folder / "other"); },
              ThrowsMessage<Error>(HasSubstr("other/.lock: is a symbolic link")));
}

TEST(DatasetFolder, ReadersNeverSeeAMixedSet) {
  TemporaryFolder folder;
  publish(folder.path(), "0");
  std::atomic<bool> stop = false;
  std::atomic<int> mixed = 0, read = 0;
  std::vector<std::thread> readers;
  for (int i = 0; i < 3; ++i)
    readers.emplace_back([&] {
      while (!stop) {
        {
          const ReadLock lock({folder / "train_x.npy"});
          mixed += set_in(folder.path()) == "mixed";
          ++read;
        }
        std::this_thread::sleep_for(std::chrono::milliseconds(2));  // the writer's turn
      }
    });
  for (int k = 1; k <= 20; ++k) {
    publish(folder.path(), std::to_string(k));
    for (const int before = read; read == before;) std::this_thread::yield();
  }
  stop = true;
  for (std::thread& reader : readers) reader.join();
  EXPECT_EQ(mixed, 0);
}

TEST(DatasetFolder, ADyingWriterLeavesTheOldOrTheNewSet) {
  TemporaryFolder folder;
  publish(folder.path(), "0");
  ASSERT_NO_FATAL_FAILURE(kill_writers(folder.path()));
  DatasetWriter(folder.path());
  EXPECT_EQ(folder.names(), kClean);
}

TEST(DatasetFolder, ReadersShareAndWritersWait) {
  TemporaryFolder folder;
  publish(folder.path(), "old");
  const ReadLock one({folder / "train_x.npy"}), two({folder / "train_x.npy"});
  int waits = 0;
  EXPECT_THROW(DatasetWriter(folder.path(),
                             [&] {
                               if (++waits == 3) throw Interrupted(SIGTERM);
                             }),
               Interrupted);
  EXPECT_EQ(waits, 3);
}

TEST(DatasetFolder, FilesOfOneOwnNeedNoLock) {
  TemporaryFolder folder;
  write_bytes(folder / "x.npy", "x");
  ReadLock({folder / "x.npy", folder / "y.npy", folder / "missing" / "z.npy", "relative.npy"});
  EXPECT_EQ(folder.names(), std::set<std::string>{"x.npy"});
}

TEST(DatasetFolder, AFolderThatCannotBeMadeIsNamed) {
  TemporaryFolder folder;
  write_bytes(folder / "file", "");
  EXPECT_THAT([&] { DatasetWriter(folder / "file"); }, ThrowsMessage<Error>(HasSubstr("cannot create the folder")));
  EXPECT_THAT([&] { DatasetWriter(folder / "file/data"); },
              ThrowsMessage<Error>(HasSubstr("cannot create the folder")));
}

DatasetInfo sample_info() {
  DatasetInfo info;
  info.dataset = "fashion";
  info.palette = Palette::grey(16);
  info.dtype = "uint8";
  info.classes = {"T-shirt/top", "yes", "0", ": #"};
  info.raw = {{"train-images-idx3-ubyte", "ab12"}};
  info.files = {{"train_x.npy", "00"}, {"test_y.npy", "1e5"}};
  info.made_by = "igpt 0.1.0";
  return info;
}

TEST(DatasetInfo, ComesBackFromYaml) {
  TemporaryFolder folder;
  EXPECT_FALSE(read_dataset_info(folder.path()));
  const DatasetInfo info = sample_info();
  write_bytes(folder / "dataset.yaml", to_yaml(info));
  const auto read = read_dataset_info(folder.path());
  ASSERT_TRUE(read);
  EXPECT_EQ(read->dataset, info.dataset);
  EXPECT_EQ(read->palette, info.palette);
  EXPECT_EQ(read->dtype, info.dtype);
  EXPECT_EQ(read->image_size, info.image_size);
  EXPECT_EQ(read->classes, info.classes);
  EXPECT_EQ(read->raw, info.raw);
  EXPECT_EQ(read->files, info.files);
  EXPECT_EQ(read->made_by, info.made_by);
}

TEST(DatasetInfo, CentroidsComeBackBitForBit) {
  DatasetInfo info = sample_info();
  info.palette = Palette::of_centroids({0.66192061f, 1.0f / 3, 0.0006868664f, 1}, 1);
  EXPECT_EQ(parse_dataset_info(to_yaml(info), "dataset.yaml").palette, info.palette);
}

// 32,768 colours with centroids take less than 1 MB; PyYAML reads the same as bytes.
TEST(DatasetInfo, LargePalettesComeBackBitForBit) {
  DatasetInfo info = sample_info();
  for (const int64_t size : {256, 257, 32768}) {
    std::vector<float> centroids;
    for (int64_t i = 0; i < 3 * size; ++i) centroids.push_back(static_cast<float>(i) / static_cast<float>(3 * size));
    info.palette = Palette::of_centroids(centroids, 3);
    info.kmeans_seed = size;
    const std::string yaml = to_yaml(info);
    EXPECT_EQ(yaml.find("!!binary") != yaml.npos, size > 256);
    EXPECT_LT(yaml.size(), size_t{700'000});
    const DatasetInfo read = parse_dataset_info(yaml, "dataset.yaml");
    EXPECT_EQ(read.palette, info.palette);
    EXPECT_EQ(read.kmeans_seed, size);
    EXPECT_EQ(read.files, info.files);
  }
}

TEST(DatasetInfo, DamagedLargePalettesAreRefused) {
  DatasetInfo info = sample_info();
  info.palette = {3, std::vector<uint8_t>(3 * 300, 7)};
  const std::string good = to_yaml(info);
  const size_t begin = good.find("!!binary \"") + 10;
  const auto with = [&](size_t place, size_t size, const std::string& text) {
    return std::string(good).replace(place, size, text);
  };
  EXPECT_EQ(parse_dataset_info(good, "").palette, info.palette);
  for (const std::string& text :
       {with(begin, 2, "??"), with(begin - 10, 9, ""), with(begin - 10, 10, "!!binary "),
        with(begin - 10, 9, "!!binary \"\" "), with(good.find("channels: 3"), 11, "channels: 2"),
        good.substr(0, begin + 100), std::string(size_t{2} << 20, 'x')})
    try {
      const auto read = parse_dataset_info(text, "dataset.yaml").palette;
      ADD_FAILURE() << "read " << read.size() << " colours of " << text.substr(0, 400);
    } catch (const InputError& error) {
      EXPECT_EQ(std::string(error.what()).find('\n'), std::string::npos) << error.what();
    }
  // yaml-cpp would take some hundred times a long file.
  EXPECT_THROW(parse_dataset_info(good + std::string(70'000, '#'), ""), InputError);
}

TEST(DatasetInfo, AnyOtherYamlIsRefused) {
  TemporaryFolder folder;
  DatasetInfo info = sample_info();
  info.palette.centroids.assign(16, 0);
  EXPECT_THROW(parse_dataset_info(to_yaml(info), ""), InputError);
  info.palette.centroids = {NAN};
  EXPECT_THROW(parse_dataset_info(to_yaml(info), ""), InputError);
  const std::string good = to_yaml(sample_info());
  const auto with = [&](const std::string& from, const std::string& to) {
    std::string text = good;
    return text.replace(text.find(from), from.size(), to);
  };
  for (const std::string& text :
       {std::string(), std::string("just text"), std::string("[1, 2]"), std::string("{"), std::string(50'000, '['),
        std::string(50'000, '{'), std::string(100'000, ' '), std::string("\xff\xfe\0\0", 4), std::string("a: *b"),
        with("channels: 1", "channels: 0"), with("channels: 1", "channels: x"), with("255]", "256]"),
        with("255]", "-1]"), with("sha256:", "other:"), with("image_size: 28", "image_size: [28]"),
        with("palette:", "palette: 7\nx:")}) {
    write_bytes(folder / "dataset.yaml", text);
    EXPECT_THROW(read_dataset_info(folder.path()), InputError) << text.substr(0, 200);
  }
}

// yaml-cpp repeats bytes of the file in its messages.
TEST(DatasetInfo, RefusalsAreOneLine) {
  for (const std::string text : {"a: \"\\\n\"", "a: \"\\\x1b\"", "? {a: \"\\\n"}) try {
      parse_dataset_info(text, "dataset.yaml");
      ADD_FAILURE() << text;
    } catch (const InputError& error) {
      EXPECT_EQ(std::string(error.what()).find_first_of("\n\x1b"), std::string::npos) << error.what();
    }
}

}  // namespace
}  // namespace igpt::data
