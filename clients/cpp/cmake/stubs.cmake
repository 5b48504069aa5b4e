# Generates the stubs from protos/: sets STUB_SOURCES, STUB_FOLDER and STUB_HEADERS (for the installation).
set(STUB_FOLDER ${CMAKE_CURRENT_BINARY_DIR}/stubs)
get_filename_component(CONTRACT ${CMAKE_CURRENT_SOURCE_DIR}/../../protos ABSOLUTE)
get_filename_component(THIRD_PARTY ${CMAKE_CURRENT_SOURCE_DIR}/../protos ABSOLUTE)

if(TARGET gRPC::grpc_cpp_plugin)
  set(GRPC_PLUGIN $<TARGET_FILE:gRPC::grpc_cpp_plugin>)
else() # Debian's gRPC does not export it
  find_program(GRPC_PLUGIN grpc_cpp_plugin REQUIRED)
endif()
file(MAKE_DIRECTORY ${STUB_FOLDER})

# stub(ROOT NAME [SERVICE]): NAME.proto below ROOT; with SERVICE the stubs of its service, too.
function(stub root name)
  set(outputs ${STUB_FOLDER}/${name}.pb.cc ${STUB_FOLDER}/${name}.pb.h)
  set(options --cpp_out=${STUB_FOLDER})
  if("SERVICE" IN_LIST ARGN)
    list(APPEND outputs ${STUB_FOLDER}/${name}.grpc.pb.cc ${STUB_FOLDER}/${name}.grpc.pb.h)
    list(APPEND options --grpc_out=${STUB_FOLDER} --plugin=protoc-gen-grpc=${GRPC_PLUGIN})
  endif()
  add_custom_command(
    OUTPUT ${outputs}
    COMMAND protobuf::protoc -I${CONTRACT} -I${THIRD_PARTY} ${options} ${root}/${name}.proto
    DEPENDS ${root}/${name}.proto
    VERBATIM)
  # Generated messages repeat names of file scope, so a unity build must leave them alone.
  set_source_files_properties(${STUB_FOLDER}/${name}.pb.cc PROPERTIES SKIP_UNITY_BUILD_INCLUSION ON)
  set(STUB_SOURCES ${STUB_SOURCES} ${outputs} PARENT_SCOPE)
endfunction()

stub(${CONTRACT} google/rpc/status)
stub(${CONTRACT} cascade/v1/check)
stub(${CONTRACT} cascade/v1/cascade_service SERVICE)
stub(${THIRD_PARTY} google/rpc/error_details)
stub(${THIRD_PARTY} grpc/health/v1/health SERVICE)
