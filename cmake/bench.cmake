# Benchmarks: tests/bench/NAME_bench.c → build/NAME_bench, with tests/bench/*.bpf.c as skeletons.
# Built by the target `bench` (scripts/bench), not by default.
file(GLOB BENCH_BPF_SOURCES CONFIGURE_DEPENDS tests/bench/*.bpf.c)
foreach(source ${BENCH_BPF_SOURCES})
	tidegate_bpf_object(tidegate_bench_bpf ${source} SKELETON OUTPUT ${CMAKE_BINARY_DIR}/tests)
endforeach()

add_custom_target(bench)
file(GLOB BENCH_SOURCES CONFIGURE_DEPENDS tests/bench/*_bench.c)
foreach(source ${BENCH_SOURCES})
	get_filename_component(name ${source} NAME_WE)
	add_executable(${name} EXCLUDE_FROM_ALL ${source})
	target_include_directories(${name} PRIVATE ${CMAKE_BINARY_DIR}/tests/generated)
	target_compile_options(${name} PRIVATE -Wno-vla)
	target_link_libraries(${name} PRIVATE tidegate_core)
	add_dependencies(${name} tidegate_bench_bpf)
	add_dependencies(bench ${name})
endforeach()
