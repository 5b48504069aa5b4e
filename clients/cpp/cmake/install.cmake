# Installs the library so that find_package(cascade_client) finds cascade::client.
include(CMakePackageConfigHelpers)
set(PACKAGE_FOLDER ${CMAKE_INSTALL_LIBDIR}/cmake/cascade_client)
install(TARGETS cascade_client EXPORT cascade_client ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR}
        LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR})
install(DIRECTORY include/ ${STUB_FOLDER}/ DESTINATION ${CMAKE_INSTALL_INCLUDEDIR} FILES_MATCHING PATTERN "*.h")
install(FILES LICENSE DESTINATION ${CMAKE_INSTALL_DOCDIR})
install(EXPORT cascade_client NAMESPACE cascade:: FILE cascade_clientTargets.cmake DESTINATION ${PACKAGE_FOLDER})
configure_package_config_file(cmake/config.cmake.in cascade_clientConfig.cmake INSTALL_DESTINATION ${PACKAGE_FOLDER})
write_basic_package_version_file(cascade_clientConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/cascade_clientConfig.cmake
              ${CMAKE_CURRENT_BINARY_DIR}/cascade_clientConfigVersion.cmake DESTINATION ${PACKAGE_FOLDER})
