# LibTorch as the targets LibTorch::cpu and, where the installation has it, LibTorch::cuda.
#
# Looked for in Torch_DIR, CMAKE_PREFIX_PATH, LibTorch_HINTS, the active Python environment and the checkout's own .venv, in
# this order.
# Torch's own CMake package is not used: it demands a CUDA toolkit for every build against a CUDA wheel, and its targets
# link libtorch_cuda into every program, which costs each start 0.2 s and 350 MB.

string(REPLACE ":" ";" _prefixes "$ENV{CMAKE_PREFIX_PATH}")
set(_libtorch_hints)
foreach(_folder ${Torch_DIR} $ENV{Torch_DIR})
  list(APPEND _libtorch_hints "${_folder}/../../..")
endforeach()
foreach(_prefix IN LISTS CMAKE_PREFIX_PATH _prefixes)
  list(APPEND _libtorch_hints "${_prefix}" "${_prefix}/../.." "${_prefix}/torch")
endforeach()
list(APPEND _libtorch_hints ${LibTorch_HINTS})
foreach(_python "$ENV{VIRTUAL_ENV}/bin/python" "$ENV{CONDA_PREFIX}/bin/python" python3 "${CMAKE_CURRENT_LIST_DIR}/../../.venv/bin/python")
  execute_process(
    COMMAND "${_python}" -c "import importlib.util as u; s = u.find_spec('torch'); print(s.submodule_search_locations[0] if s else '')"
    OUTPUT_VARIABLE _location OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET RESULT_VARIABLE _status)
  if(_status EQUAL 0 AND _location)
    list(APPEND _libtorch_hints "${_location}")
  endif()
endforeach()

set(LibTorch_MINIMUM 2.11)
unset(LibTorch_ROOT_DIR)
foreach(_hint IN LISTS _libtorch_hints)
  if(EXISTS "${_hint}/include/torch/csrc/api/include/torch/torch.h" AND EXISTS "${_hint}/include/torch/headeronly/version.h")
    file(STRINGS "${_hint}/include/torch/headeronly/version.h" _lines REGEX "#define TORCH_VERSION_(MAJOR|MINOR|PATCH) ")
    string(REGEX REPLACE "[^0-9;]" "" _numbers "${_lines}")
    string(REPLACE ";" "." LibTorch_VERSION "${_numbers}")
    if(LibTorch_FIND_VERSION_EXACT AND NOT LibTorch_VERSION VERSION_EQUAL LibTorch_FIND_VERSION)
      message(STATUS "LibTorch ${LibTorch_VERSION} in ${_hint} is not ${LibTorch_FIND_VERSION}; looking on")
    elseif(LibTorch_VERSION VERSION_LESS LibTorch_MINIMUM)
      message(STATUS "LibTorch ${LibTorch_VERSION} in ${_hint} is older than ${LibTorch_MINIMUM}; looking on")
    else()
      get_filename_component(LibTorch_ROOT_DIR "${_hint}" REALPATH)
      break()
    endif()
  endif()
endforeach()

if(CMAKE_SCRIPT_MODE_FILE)  # scripts/setup.sh asks whether there is one
  if(NOT LibTorch_ROOT_DIR)
    message(FATAL_ERROR "no LibTorch ${LibTorch_MINIMUM} or newer")
  endif()
  message(STATUS "LibTorch ${LibTorch_VERSION} in ${LibTorch_ROOT_DIR}")
  return()
endif()

if(LibTorch_FIND_VERSION_EXACT)  # igptConfig.cmake
  set(_advice "set CMAKE_PREFIX_PATH to the LibTorch ${LibTorch_FIND_VERSION} that igpt was built with")
else()
  set(_advice "run scripts/setup.sh, or set CMAKE_PREFIX_PATH to a LibTorch ${LibTorch_MINIMUM} or newer")
endif()
include(FindPackageHandleStandardArgs)
find_package_handle_standard_args(LibTorch
  REQUIRED_VARS LibTorch_ROOT_DIR
  VERSION_VAR LibTorch_VERSION
  REASON_FAILURE_MESSAGE "${_advice}")

if(LibTorch_FOUND AND NOT TARGET LibTorch::cpu)
  set(LibTorch_LIBRARY_DIR "${LibTorch_ROOT_DIR}/lib")
  add_library(LibTorch::cpu INTERFACE IMPORTED)
  target_include_directories(LibTorch::cpu SYSTEM INTERFACE
    "${LibTorch_ROOT_DIR}/include" "${LibTorch_ROOT_DIR}/include/torch/csrc/api/include")
  target_link_libraries(LibTorch::cpu INTERFACE "${LibTorch_LIBRARY_DIR}/libtorch_cpu.so" "${LibTorch_LIBRARY_DIR}/libc10.so")
  # libtorch_cpu finds the libraries beside it through its own RPATH; the linker has to be told to trust that.
  target_link_options(LibTorch::cpu INTERFACE "LINKER:--allow-shlib-undefined")

  if(EXISTS "${LibTorch_LIBRARY_DIR}/libtorch_cuda.so")
    add_library(LibTorch::cuda INTERFACE IMPORTED)
    target_link_libraries(LibTorch::cuda INTERFACE LibTorch::cpu
      -Wl,--no-as-needed "${LibTorch_LIBRARY_DIR}/libtorch_cuda.so" "${LibTorch_LIBRARY_DIR}/libc10_cuda.so" -Wl,--as-needed)
  endif()
endif()
