//! Keys of the sockets: those a program listens on, and those it opens itself.

use super::Kind::{Bool, Int, Long, Text};
use super::{Key, a, b, c};

/// Without `listenPort`, whose default each program chooses (`BROKER`, `NAMESRV`).
pub const SERVER: &[Key] = &[
    a("bindAddress", Text, "0.0.0.0"),
    c("serverWorkerThreads", Int, "8"),
    c("serverCallbackExecutorThreads", Int, "0"),
    c("serverSelectorThreads", Int, "3"),
    b("serverOnewaySemaphoreValue", Int, "256"),
    b("serverAsyncSemaphoreValue", Int, "64"),
    a("serverChannelMaxIdleTimeSeconds", Int, "120"),
    b("serverSocketSndBufSize", Int, "0"),
    b("serverSocketRcvBufSize", Int, "0"),
    b("writeBufferHighWaterMark", Int, "0"),
    b("writeBufferLowWaterMark", Int, "0"),
    a("serverSocketBacklog", Int, "1024"),
    c("serverNettyWorkerGroupEnable", Bool, "true"),
    c("serverPooledByteBufAllocatorEnable", Bool, "true"),
    c("useEpollNativeSelector", Bool, "false"),
    a("enableShutdownGracefully", Bool, "false"),
    a("shutdownWaitTimeSeconds", Int, "30"),
];

pub const CLIENT: &[Key] = &[
    c("clientWorkerThreads", Int, "4"),
    c("clientCallbackExecutorThreads", Int, "?"),
    b("clientOnewaySemaphoreValue", Int, "65535"),
    b("clientAsyncSemaphoreValue", Int, "65535"),
    a("connectTimeoutMillis", Int, "3000"),
    c("channelNotActiveInterval", Long, "60000"),
    a("clientChannelMaxIdleTimeSeconds", Int, "120"),
    b("clientSocketSndBufSize", Int, "0"),
    b("clientSocketRcvBufSize", Int, "0"),
    c("clientPooledByteBufAllocatorEnable", Bool, "false"),
    a("clientCloseSocketIfTimeout", Bool, "true"),
    a("useTLS", Bool, "false"),
    b("socksProxyConfig", Text, "{}"),
    b("scanAvailableNameSrv", Bool, "true"),
    b("maxReconnectIntervalTimeSeconds", Long, "60"),
    a("enableReconnectForGoAway", Bool, "true"),
    c("disableCallbackExecutor", Bool, "false"),
    c("disableNettyWorkerGroup", Bool, "false"),
];
