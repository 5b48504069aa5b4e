# Makes service_config.h of clients/service-config.json, the retry policy that all clients share.
set(SERVICE_CONFIG_FOLDER ${CMAKE_CURRENT_BINARY_DIR}/config)
set(SERVICE_CONFIG_FILE ${CMAKE_CURRENT_SOURCE_DIR}/../service-config.json)
file(READ ${SERVICE_CONFIG_FILE} SERVICE_CONFIG)
configure_file(cmake/service_config.h.in ${SERVICE_CONFIG_FOLDER}/service_config.h @ONLY)
set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${SERVICE_CONFIG_FILE})
