# Build settings shared by every target, and one function for every library and test.

set(CMAKE_CXX_STANDARD 20)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)
if(NOT CMAKE_BUILD_TYPE)
  set(CMAKE_BUILD_TYPE Release CACHE STRING "" FORCE)
endif()
set(CMAKE_RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/bin)
set(CMAKE_LIBRARY_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/lib)
set(CMAKE_ARCHIVE_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/lib)

find_program(CCACHE_PROGRAM ccache)
if(CCACHE_PROGRAM AND NOT CMAKE_CXX_COMPILER_LAUNCHER)
  set(CMAKE_CXX_COMPILER_LAUNCHER ${CCACHE_PROGRAM})
endif()
if(CCACHE_PROGRAM AND NOT CMAKE_CUDA_COMPILER_LAUNCHER)
  set(CMAKE_CUDA_COMPILER_LAUNCHER ${CCACHE_PROGRAM})
endif()

# Warnings are errors on the compiler that the tree is developed with; a newer one has opinions of its
# own (GCC 13 sees overruns in its standard library's vectors), and a newcomer's build must not end there.
set(werror)
if(CMAKE_CXX_COMPILER_VERSION VERSION_LESS 13 OR NOT CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
  set(werror -Werror)
endif()
add_library(hone_options INTERFACE)
target_include_directories(hone_options INTERFACE ${PROJECT_SOURCE_DIR})
target_compile_options(hone_options INTERFACE
  $<$<COMPILE_LANGUAGE:CXX>:-Wall -Wextra ${werror} -fno-math-errno>)
if(HONE_SANITIZE)
  target_compile_options(hone_options INTERFACE
    $<$<COMPILE_LANGUAGE:CXX>:-fsanitize=${HONE_SANITIZE} -fno-omit-frame-pointer -g>)
  target_link_options(hone_options INTERFACE -fsanitize=${HONE_SANITIZE})
endif()

# hone_library(<room> [SHARED] SOURCES ... LINK ...): target hone_<room>, alias hone::<room>.
function(hone_library room)
  cmake_parse_arguments(ARG "SHARED" "" "SOURCES;LINK" ${ARGN})
  if(NOT ARG_SOURCES)  # a room still empty
    add_library(hone_${room} INTERFACE)
    add_library(hone::${room} ALIAS hone_${room})
    target_link_libraries(hone_${room} INTERFACE hone_options ${ARG_LINK})
    return()
  endif()
  if(ARG_SHARED)
    add_library(hone_${room} SHARED ${ARG_SOURCES})
  else()
    add_library(hone_${room} STATIC ${ARG_SOURCES})
  endif()
  add_library(hone::${room} ALIAS hone_${room})
  target_link_libraries(hone_${room} PUBLIC hone_options ${ARG_LINK})
endfunction()

# hone_test(<path>_test.cpp [VARIANT name] [ALL_CORES] LINK ... [LABELS ...]): one binary and one CTest
# entry a file. A test has one thread, so that `ctest -j` runs as many as there are cores (at these
# sizes a second thread costs more than it brings); with ALL_CORES it runs alone, with a thread a core.
cmake_host_system_information(RESULT HONE_CORES QUERY NUMBER_OF_LOGICAL_CORES)
function(hone_test source)
  cmake_parse_arguments(ARG "ALL_CORES" "VARIANT" "LINK;LABELS" ${ARGN})
  string(REPLACE "/" "_" name ${source})
  string(REGEX REPLACE "\\.cpp$" "" name ${name})
  if(ARG_VARIANT)
    string(APPEND name "_" ${ARG_VARIANT})
  endif()
  add_executable(${name} ${CMAKE_CURRENT_SOURCE_DIR}/${source})
  set_target_properties(${name} PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/tests)
  target_link_libraries(${name} PRIVATE hone_options ${ARG_LINK} GTest::gtest GTest::gtest_main)
  # Tests are compiled once and run once: little optimisation. For -Wno-restrict see engine/.
  target_compile_options(${name} PRIVATE -O1 $<$<CXX_COMPILER_ID:GNU>:-Wno-restrict>)
  add_test(NAME ${name} COMMAND ${name})
  set_tests_properties(${name} PROPERTIES TIMEOUT 300 SKIP_RETURN_CODE 77)
  set_property(TEST ${name} PROPERTY ENVIRONMENT
    "HONE_SOURCE_DIR=${PROJECT_SOURCE_DIR};HONE_BINARY_DIR=${CMAKE_BINARY_DIR}")
  if(ARG_ALL_CORES)
    set_property(TEST ${name} PROPERTY PROCESSORS ${HONE_CORES})
  else()
    set_property(TEST ${name} APPEND PROPERTY ENVIRONMENT OMP_NUM_THREADS=1)
  endif()
  if(ARG_LABELS)
    set_property(TEST ${name} PROPERTY LABELS ${ARG_LABELS})
  endif()
endfunction()
