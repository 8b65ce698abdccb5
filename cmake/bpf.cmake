# BPF programs: bpf/NAME.bpf.c → build/bpf/NAME.bpf.o and build/generated/NAME.skel.h, by themselves;
# tests/bpf/NAME.bpf.c → the same under build/tests/bpf/ and build/tests/generated/. Names are those
# of libbpf-tools: `#include "NAME.skel.h"`, then `NAME_bpf__open()`.
find_program(CLANG NAMES clang clang-14 REQUIRED)
find_program(LLVM_STRIP NAMES llvm-strip llvm-strip-14 REQUIRED)
find_program(BPFTOOL NAMES bpftool PATHS /usr/sbin /usr/local/sbin REQUIRED)

set(BPF_FLAGS -O2 -g -target bpf -mcpu=v3 -std=gnu17 -Wall -Wextra -Werror
	-Wno-unused-parameter -Wno-address-of-packed-member -fno-strict-aliasing)
if(CMAKE_C_LIBRARY_ARCHITECTURE)	# Debian keeps <asm/…> there
	list(APPEND BPF_FLAGS -idirafter /usr/include/${CMAKE_C_LIBRARY_ARCHITECTURE})
endif()

# tidegate_bpf_object(TARGET SOURCE [SKELETON] [OUTPUT DIR] [FLAGS …]): compiles SOURCE
# (….bpf.c) to DIR/bpf/NAME.bpf.o, without DWARF, and with SKELETON writes
# DIR/generated/NAME.skel.h; DIR is build/ unless given. TARGET (made if new) builds both, and
# again when the source or a header that it includes changes.
function(tidegate_bpf_object target source)
	cmake_parse_arguments(ARG "SKELETON" "OUTPUT" "FLAGS" ${ARGN})
	get_filename_component(source ${source} ABSOLUTE)
	get_filename_component(name ${source} NAME)
	string(REGEX REPLACE "\\.bpf\\.c$" "" name ${name})
	if(NOT ARG_OUTPUT)
		set(ARG_OUTPUT ${CMAKE_BINARY_DIR})
	endif()
	set(object ${ARG_OUTPUT}/bpf/${name}.bpf.o)
	set(skeleton ${ARG_OUTPUT}/generated/${name}.skel.h)
	file(MAKE_DIRECTORY ${ARG_OUTPUT}/bpf ${ARG_OUTPUT}/generated)

	add_custom_command(OUTPUT ${object}
		COMMAND ${CLANG} ${BPF_FLAGS} ${ARG_FLAGS} -I${CMAKE_SOURCE_DIR}/bpf
			-MD -MT ${object} -MF ${object}.d -c ${source} -o ${object}
		COMMAND ${LLVM_STRIP} -g ${object}
		DEPENDS ${source} DEPFILE ${object}.d
		COMMENT "BPF object ${name}.bpf.o" VERBATIM)
	set(outputs ${object})
	if(ARG_SKELETON)
		add_custom_command(OUTPUT ${skeleton}
			COMMAND ${BPFTOOL} gen skeleton ${object} > ${skeleton}.new
			COMMAND ${CMAKE_COMMAND} -E rename ${skeleton}.new ${skeleton}
			DEPENDS ${object}
			COMMENT "BPF skeleton ${name}.skel.h" VERBATIM)
		list(APPEND outputs ${skeleton})
	endif()

	add_custom_target(bpf_object_${target}_${name} DEPENDS ${outputs})
	if(NOT TARGET ${target})
		add_custom_target(${target} ALL)
	endif()
	add_dependencies(${target} bpf_object_${target}_${name})
endfunction()

add_custom_target(tidegate_bpf ALL)
file(GLOB BPF_SOURCES CONFIGURE_DEPENDS bpf/*.bpf.c)
foreach(source ${BPF_SOURCES})
	tidegate_bpf_object(tidegate_bpf ${source} SKELETON)
endforeach()
cmake_language(DEFER CALL add_dependencies tidegate_core tidegate_bpf)

add_custom_target(tidegate_test_bpf ALL)
file(GLOB TEST_BPF_SOURCES CONFIGURE_DEPENDS tests/bpf/*.bpf.c)
foreach(source ${TEST_BPF_SOURCES})
	tidegate_bpf_object(tidegate_test_bpf ${source} SKELETON OUTPUT ${CMAKE_BINARY_DIR}/tests)
endforeach()
